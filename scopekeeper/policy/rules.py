"""The rules of lanes, parsed and merged from TOML files. Pure.

A file has a table for each lane class, and one for all of them::

    [lanes.default]
    escaped = "report"          # or "return", "stop": processes that left their scope
    orphan_grace = "30s"        # how long a member is kept after its gateway has ended

    [lanes.cron]
    ttl = "2h"
    supersede = true            # a new run of the same session ends the one before

    [lanes.default.exec]
    on_leader_exit = "stop"     # only members of this kind

    [servers.playwright]
    member_memory_max = "1.5G"  # MCP servers of this name, in every lane

A lane's own table overrides ``default``, and in both the table of a kind overrides the lane's; that
of a server overrides all of them; later files override earlier ones. ``escaped`` and ``rewrap`` at
the top of a file are the same in ``default``. ``command_rules`` reads the tables ``on_end``
and ``on_event``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scopekeeper.data import dataclass, field, values
from scopekeeper.policy.command_rules import TABLES, CommandRule, CommandTables
from scopekeeper.policy.toml_file import PolicyError, document, line_of
from scopekeeper.policy.values import Value, by_key, checked
from scopekeeper.scope.names import EPHEMERAL_LANES, MEMBER_MAX, lane_class
from scopekeeper.scope.records import KINDS

DEFAULT = "default"
BUILT_IN = "built in"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one lane. Durations are microseconds; None means not set."""

    lifetime: str | None = None
    """Default lifetime of launches; None: it depends on their kind."""
    ephemeral: bool = False
    """Whether each session id gets its own scope: it is then part of the scope's name."""
    orphans: str = "stop"
    orphan_grace: int = 0
    """How long a member of lifetime gateway stays after its owner ended."""
    session_grace: int = 86_400_000_000
    """The same for lifetime session: another gateway can adopt it meanwhile."""
    abandoned_grace: int = 10_000_000
    """How long an MCP server stays to which nobody can talk any more."""
    on_leader_exit: str = "linger"
    leader_grace: int = 10_000_000
    ttl: int | None = None
    grace: int | None = None
    timeout: int | None = None
    """How long a run of ``exec`` may take."""
    no_output_timeout: int | None = None
    """How long it may write nothing; neither applies to lifetime detached."""
    replace: bool = False
    """Whether a launch stops the earlier member of its session, lane and name."""
    supersede: bool = False
    """Whether the first launch of a run stops the other runs of its session and lane."""
    escaped: str = "report"
    """What is done about a process that left its scope: nothing; put back while its member lives;
    ended once its member is over."""
    rewrap: bool = False
    """Whether the keeper wraps servers that appear in the configuration of a gateway."""
    idle: int | None = None
    idle_of: str = "scope"
    """Whether a scope is ended when all of it is idle, or each member by itself."""
    max_scopes: int | None = None
    when_full: str = "refuse"
    min_available: str | None = None
    """Memory that the machine must have available for a launch."""
    max_pressure: int | None = None
    """Percent of the last ten seconds in which some process may have waited for memory."""
    when_short: str = "refuse"
    """What a launch does without that: fail, or wait."""
    wait_most: int = 8_000_000
    """How long it waits before it fails: less than a client waits for a server (Codex: 10 s)."""
    memory_max: str | None = None
    memory_high: str | None = None
    memory_swap_max: str | None = None
    tasks_max: str | None = None
    cpu_weight: str | None = None
    member_memory_max: str | None = None
    member_memory_swap_max: str | None = None
    member_tasks_max: str | None = None
    oom_score_adjust: int | None = None
    """How much sooner than others a member is killed if the machine runs out of memory."""
    managed_oom_preference: str | None = None
    """Whether systemd-oomd may end a member by itself: as any other, only if need be, or never;
    None: it passes over scopes whose members have no limits of memory."""
    scratch: bool = False
    """Whether what ``run`` and ``exec`` start gets a folder as TMPDIR that is removed after it."""
    scratch_max: str | None = None
    """The size above which such a folder is reported."""
    stderr: str = "inherit"
    """Where the stderr of an MCP server goes: where its caller's does, to the journal, or to a
    file."""


_OF_A_FILE = ("escaped", "rewrap")
"""Rules that the top of a file may have, as if they were in default."""
_OF_NO_LANE = ("rewrap",)
"""Rules that no lane has for itself."""
_KEYS = tuple(values(Rules()))
BY_KIND = (
    "orphans", "orphan_grace", "session_grace", "abandoned_grace", "on_leader_exit", "leader_grace",
    "escaped",
)  # fmt: skip
"""Rules that may differ by the kind of a member."""
OF_SERVER = (
    "member_memory_max", "member_memory_swap_max", "member_tasks_max", "oom_score_adjust",
    "managed_oom_preference", "min_available", "max_pressure", "when_short", "wait_most",
    "scratch", "scratch_max", "stderr",
)  # fmt: skip
"""Rules that may differ by the name of an MCP server."""
_OF_KINDS: Mapping[str, Mapping[str, Value]] = {
    "mcp": {"on_leader_exit": "stop", "escaped": "return"}
}
"""Built-in rules for a kind: nobody can use what a server leaves behind, and nobody starts a
program in one for its own sake, as people do in a shell."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and the file and line that set it."""

    value: Value
    source: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of every lane class."""

    lanes: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    """Settings by lane class; later files override earlier ones."""
    kinds: Mapping[tuple[str, str], Mapping[str, Setting]] = field(default_factory=dict)
    """Settings of BY_KIND by lane class and kind."""
    commands: tuple[CommandRule, ...] = ()
    """The commands for ends and events, also those that are not enabled."""
    servers: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    """Settings of OF_SERVER by the name of an MCP server."""

    def settings(self, lane_class: str, kind: str = "") -> dict[str, Setting]:
        """Return every rule of a lane class with its source, for members of a kind if given."""
        said = _built_in(lane_class, kind)
        for table in (DEFAULT, lane_class):
            said |= self.lanes.get(table, {})
            said |= self.kinds.get((table, kind), {})
        return {key: said[key] for key in _KEYS}

    def mentions(self, lane_class: str) -> bool:
        """Return whether a file or a built-in rule names this lane class."""
        named = {*self.lanes, *(lane for lane, _ in self.kinds), DEFAULT, "main", *EPHEMERAL_LANES}
        return lane_class in named

    def rules(self, lane_class: str, kind: str = "") -> Rules:
        """Return the rules of a lane class, for members of a kind if given."""
        said = self.settings(lane_class, kind)
        return Rules(**{key: setting.value for key, setting in said.items()})  # type: ignore[arg-type]

    @property
    def counts_idle(self) -> bool:
        """Whether any lane stops idle scopes."""
        return any(
            table["idle"].value is not None for table in self.lanes.values() if "idle" in table
        )

    @property
    def bounds_scratch(self) -> bool:
        """Whether any scratch folder may have a size above which it is reported."""
        tables = (*self.lanes.values(), *self.servers.values())
        return any("scratch_max" in table for table in tables)

    @property
    def memory_shares(self) -> frozenset[float]:
        """The shares of memory limits that commands ask for."""
        return frozenset(rule.memory_share for rule in self.commands if rule.watches_memory)

    def escaped(self, lane: str, kind: str) -> str:
        """Return what is done about a process that left a member of a lane and kind."""
        return self.rules(lane_class(lane), kind).escaped


def _built_in(lane_class: str, kind: str) -> dict[str, Setting]:
    said: dict[str, Value] = values(Rules())
    said |= _OF_KINDS.get(kind, {})
    if lane_class in EPHEMERAL_LANES:
        said["ephemeral"] = True
    return {key: Setting(value, BUILT_IN) for key, value in said.items()}


def parse(texts: Sequence[tuple[str, str]]) -> Policy:
    """Merge files, each a path and its text, later files last; raises PolicyError."""
    lanes: dict[str, dict[str, Setting]] = {}
    kinds: dict[tuple[str, str], dict[str, Setting]] = {}
    commands = CommandTables()
    servers: dict[str, dict[str, Setting]] = {}
    for path, text in texts:
        found = document(path, text)
        commands.take(path, text, found)
        for entry in _entries(path, text, found):
            source = f"{path}:{line_of(text, *entry.place)}"
            try:
                setting = Setting(_checked(entry), source)
            except ValueError as error:
                raise PolicyError(f"{source}: {by_key(entry.key, error)}") from None
            if entry.server:
                servers.setdefault(entry.server, {})[entry.key] = setting
            elif entry.kind:
                kinds.setdefault((entry.lane, entry.kind), {})[entry.key] = setting
            else:
                lanes.setdefault(entry.lane or DEFAULT, {})[entry.key] = setting
    return Policy(lanes, kinds, commands.rules(), servers)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One setting of a file."""

    lane: str
    """'' at the top of the file."""
    kind: str
    """'' in the table of a whole lane."""
    key: str
    value: object
    server: str = ""
    """'' in the table of a lane."""

    @property
    def place(self) -> tuple[str, ...]:
        """Its keys from the root of the document."""
        if self.server:
            return ("servers", self.server, self.key)
        tables = ("lanes", self.lane, self.kind) if self.kind else ("lanes", self.lane)
        return (*tables, self.key) if self.lane else (self.key,)

    @property
    def known(self) -> tuple[str, ...]:
        """The settings allowed in its table."""
        if self.server:
            return OF_SERVER
        if self.kind:
            return BY_KIND
        if not self.lane:
            return _OF_A_FILE
        return tuple(each for each in _KEYS if self.lane == DEFAULT or each not in _OF_NO_LANE)


def _entries(path: str, text: str, document: dict[str, Any]) -> list[_Entry]:
    """Return the settings of a file that are about lanes and servers; raises PolicyError."""
    of_lanes = _of_lanes(path, text, document.pop("lanes", {}))
    of_servers = _of_servers(path, text, document.pop("servers", {}))
    at_the_top = [_Entry("", "", key, value) for key, value in document.items()]
    return at_the_top + of_lanes + of_servers


def _of_lanes(path: str, text: str, lanes: object) -> list[_Entry]:
    if not isinstance(lanes, dict):
        raise PolicyError(f"{path}:{line_of(text, 'lanes')}: write [lanes.NAME]")
    found: list[_Entry] = []
    for name, table in lanes.items():
        where = f"{path}:{line_of(text, 'lanes', name)}"
        if not isinstance(table, dict):
            raise PolicyError(f"{where}: {name} is in no lane's table; write [lanes.NAME]")
        if not name or ":" in name or not name.isprintable():
            raise PolicyError(f"{where}: {name!r} is no lane class; a lane's class ends at :")
        for key, value in table.items():
            if key in KINDS and isinstance(value, dict):
                found += [_Entry(name, key, inner, each) for inner, each in value.items()]
            else:
                found.append(_Entry(name, "", key, value))
    return found


def _of_servers(path: str, text: str, servers: object) -> list[_Entry]:
    if not isinstance(servers, dict):
        raise PolicyError(f"{path}:{line_of(text, 'servers')}: write [servers.NAME]")
    found: list[_Entry] = []
    for name, table in servers.items():
        where = f"{path}:{line_of(text, 'servers', name)}"
        if not isinstance(table, dict):
            raise PolicyError(f"{where}: {name} is in no server's table; write [servers.NAME]")
        if not name or len(name) > MEMBER_MAX or not name.isprintable():
            raise PolicyError(f"{where}: {name!r} is no name of a server")
        found += [_Entry("", "", key, value, name) for key, value in table.items()]
    return found


def _checked(entry: _Entry) -> Value:
    """Return a value checked for Rules; raises ValueError with one sentence."""
    if entry.key in KINDS and entry.lane and not entry.kind:
        raise ValueError(f"{entry.key} is a table; write [lanes.{entry.lane}.{entry.key}]")
    if entry.key not in entry.known:
        raise ValueError(_why_unknown(entry))
    return checked(entry.key, entry.value)


def _why_unknown(entry: _Entry) -> str:
    import difflib

    if entry.key in _OF_NO_LANE:
        return f"{entry.key} is no rule of a lane; put it under [lanes.{DEFAULT}]"
    if entry.server and f"member_{entry.key}" in OF_SERVER:
        return f"{entry.key} is a rule of a whole scope; write member_{entry.key}"
    if entry.server and entry.key in _KEYS:
        return f"{entry.key} is no rule of a server; put it under [lanes.{DEFAULT}] or a lane's"
    if entry.kind and entry.key in _KEYS:
        return f"{entry.key} is no rule of a kind; put it under [lanes.{entry.lane}]"
    if entry.key in _KEYS:
        return f"{entry.key} is no setting of a file; put it under [lanes.{DEFAULT}] or a lane's"
    if not entry.lane and entry.key in ("lane", "server"):
        return f"unknown table {entry.key}; write [{entry.key}s.NAME]"
    if not entry.lane and (near := difflib.get_close_matches(entry.key, TABLES, 1)):
        return f"unknown table {entry.key}; write [{near[0]}.NAME]"
    near = difflib.get_close_matches(entry.key, entry.known, 1)
    return f"unknown setting {entry.key}" + (f"; did you mean {near[0]}?" if near else "")
