"""What a launch asks for: turns options and environment into an identity and settings.

On the hot path of ``run``: builtin modules only, and no look at the machine.
"""

import posix
import sys

from scopekeeper.scope import names
from scopekeeper.scope.records import KINDS, LIFETIMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekeeper.clients.identity import Named

SCOPE_LIMITS = ("memory_max", "memory_high", "memory_swap_max", "tasks_max", "cpu_weight")
MEMBER_LIMITS = ("member_memory_max", "member_memory_swap_max", "member_tasks_max")
_ROOM = ("supersede", "max_scopes", "when_full")
"""Rules about the other scopes of the lane."""
_GATE = ("min_available", "max_pressure", "when_short", "wait_most")
"""Rules about the memory of the machine; only the first two demand anything."""
_CHOICES = {
    "kind": KINDS, "lifetime": LIFETIMES, "if_unavailable": ("fail", "warn"),
    "stderr": ("inherit", "journal", "file"),
}  # fmt: skip


class Request:
    """One launch. Texts are as given, durations in microseconds, a limit of -1 is infinity."""

    __slots__ = (
        "asked", "continues", "durations", "explicit_run", "gate", "if_unavailable", "ignored",
        "ignores_replace",
        "kind", "lane", "launched_in", "lifetime", "limits", "member_limits", "name",
        "oom_score", "oomd_preference", "owner",
        "placement", "replace", "room", "run", "scratch_max", "session", "session_id", "stderr",
    )  # fmt: skip

    def __init__(
        self,
        options: dict[str, str],
        environment: dict[bytes, bytes],
        command: str,
        rules: "Callable[[str, str], dict[str, str]] | None" = None,
        named: "Named | None" = None,
    ) -> None:
        """Read the options; the environment, then the rules of the lane, supply missing ones.

        rules returns more options for a lane's class and the name of an MCP server, '' for other
        members; named has the session that the client names.
        Raises ValueError.
        """
        self.ignored = named.ignored if named else ""
        """The client's variable that does not count, as the record has it."""
        self.asked = options.keys()
        self.ignores_replace = False
        """Whether the lane's rule to replace is not followed, since its members have no names."""
        self.launched_in = ""
        """The members that the launch came from, as ``Caller.launched_in`` has them."""
        self.continues = ""
        """How many of them this process was itself, as ``Caller.continues`` has it."""
        _check_choices(options)

        def inherited(variable: str) -> str:
            return environment.get(b"SCOPEKEEPER_" + variable.encode(), b"").decode(
                "utf-8", "surrogateescape"
            )

        def given(option: str) -> str | None:
            return _utf8(options[option]) if option in options else None

        outer = inherited("SESSION")
        session = given("session")
        self.session = session if session is not None else outer
        if session is not None or outer:
            names.check("session", self.session, names.SESSION_MAX)
        # lane, run and session id in the environment belong to the session there, the run to the
        # lane there too: it can be the owner, because another gateway's scope was in that lane
        same = not outer or self.session == outer
        lane, outer_lane = given("lane"), inherited("LANE") if same else ""
        if lane is None:
            lane = outer_lane or (named.lane if named else "") or "main"
        self.lane = names.check("lane", lane, names.LANE_MAX)
        name = given("name")
        if name is None:
            name = _utf8(command).rpartition("/")[2] or command
        self.name = names.check("name", name, names.MEMBER_MAX)
        if rules is not None:
            server = self.name if options.get("kind", "mcp") == "mcp" else ""
            ruled = rules(names.lane_class(self.lane), server)
            options = {**self._applicable(ruled, options), **options}
        if named is not None and not self.session:
            self.session = named.session
        self.kind = options.get("kind", "mcp")
        outlives = self.kind == "pty" and "of_client" not in options
        self.lifetime = options.get("lifetime", "session" if outlives else "gateway")
        if self.lifetime == "detached" and "ttl" not in self.asked:
            options.pop("ttl", None)  # the lane's ttl does not apply to detached members
        session_id = given("session_id")
        if session_id is None:
            session_id = inherited("SESSION_ID") if same else ""
        self.session_id = session_id and names.check("session id", session_id, names.RUN_MAX)
        run = given("run")
        self.explicit_run = run is not None
        is_there = same and outer_lane in ("", self.lane)
        self.run = (
            self._default_run(inherited("RUN") if is_there else "", options.get("ephemeral"))
            if run is None
            else (names.check("run", run, names.RUN_MAX))
        )
        self.placement = options.get("placement") or inherited("PLACEMENT") or "auto"
        self.owner = options.get("owner") or inherited("OWNER")
        self._read_settings(options)

    def _read_settings(self, options: dict[str, str]) -> None:
        self.replace = "replace" in options
        self.room = {key: options[key] for key in _ROOM if key in options}
        self.gate: dict[str, str] = {}
        if ("min_available" in options or "max_pressure" in options) and "ungated" not in options:
            self.gate = {key: options[key] for key in _GATE if key in options}
        self.oom_score = int(options.get("oom_score_adjust", "0"))
        self.oomd_preference = options.get("managed_oom_preference", "")
        self.scratch_max: int | None = None
        """Bytes above which its scratch folder is reported, 0 for none; None: it has no folder."""
        if options.get("scratch") == "1":
            self.scratch_max = int(options.get("scratch_max", "0"))
        self.stderr = options.get("stderr", "inherit")
        self.if_unavailable = options.get("if_unavailable", "fail")
        self.durations: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        self.member_limits: dict[str, int] = {}
        if not options.keys().isdisjoint(("ttl", "grace", *SCOPE_LIMITS, *MEMBER_LIMITS)):
            self._read_quantities(options)

    def _applicable(self, said: dict[str, str], options: dict[str, str]) -> dict[str, str]:
        """Return what the lane's rules say for a launch with these options."""
        if options.get("kind", "mcp") != "mcp":
            said.pop("stderr", None)  # only a server's is not what somebody looks at
        if "shared_name" in options:
            said.pop("replace", None)  # commands of a shell: two of one name are two
        elif not self.session and "name" not in options:
            # all servers of a client are in its session, and one command, as npx, starts many
            self.ignores_replace = said.pop("replace", None) is not None
        return said

    def _default_run(self, inherited: str, ephemeral: str | None) -> str:
        """Choose a run if none is given: see run and lifetime in the README."""
        if self.kind == "pty":
            return posix.urandom(4).hex()
        if inherited:
            return inherited
        if self.session_id and (
            names.lane_class(self.lane) in names.EPHEMERAL_LANES
            if ephemeral is None
            else ephemeral == "1"
        ):
            return self.session_id
        # a scope has one lifetime: members with another lifetime than gateway get their own scope
        return "" if self.lifetime == "gateway" else self.lifetime

    def run_beside(self, owner: str) -> str:
        """Return the run of a scope beside one that ends with a unit, and that this cannot join.

        owner is the label of this launch's owner.
        """
        return owner if self.lifetime == "gateway" else self.lifetime

    def _read_quantities(self, options: dict[str, str]) -> None:
        from scopekeeper import quantities

        for option in ("ttl", "grace"):
            if option in options:
                self.durations[option] = quantities.duration(option, options[option])
        for target, wanted in ((self.limits, SCOPE_LIMITS), (self.member_limits, MEMBER_LIMITS)):
            for option in wanted:
                if option in options:
                    target[option] = quantities.limit(option, options[option])


def _check_choices(options: dict[str, str]) -> None:
    """Raise ValueError if an option that has few values has another one."""
    for option, choices in _CHOICES.items():
        if option in options and options[option] not in choices:
            raise ValueError(
                f"unknown {option.replace('_', '-')} {options[option]!r}; "
                f"use {', '.join(choices[:-1])} or {choices[-1]}"
            )


def _utf8(argument: str) -> str:
    """Return an argument decoded as UTF-8, whatever the locale."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return argument
    return argument.encode(encoding, "surrogateescape").decode("utf-8", "surrogateescape")
