"""Contains this process and becomes the command of ``run``.

Users of a wrapper feel its start-up time, so everything here imports only modules built into the
interpreter, not even ``os`` (tests/unit/test_imports.py holds the list).
"""

import posix

from scopekeeper.launch.program import execute, original_environment, resolve, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekeeper.launch.member import NewMember
    from scopekeeper.launch.request import Request
    from scopekeeper.scope.owner import LaunchOwner
    from scopekeeper.scope.placement import Caller, Place

_CONTAINER_PROGRAMS = ("docker", "podman")
_USERS_RULES = "/.config/scopekeeper"
BUS = (b"DBUS_SESSION_BUS_ADDRESS", b"XDG_RUNTIME_DIR")
"""Variables that lead to the bus and to the manager itself."""


def run(
    options: dict[str, str],
    command: list[str],
    *,
    last: "Callable[[], None] | None" = None,
    defaults: dict[bytes, bytes] = {},  # noqa: B006
) -> None:
    """Become the command inside its scope; exit 125 to 127 if that fails.

    ``last`` runs just before exec; ``defaults`` are variables set only where unset.
    """
    from scopekeeper.launch import signals

    signals.die_by_interrupt()
    try:
        _launch(options, command, last, defaults)
    except Exception as error:  # noqa: BLE001  no traceback ever reaches a user
        _fail(error)


def _launch(
    options: dict[str, str],
    command: list[str],
    last: "Callable[[], None] | None",
    defaults: dict[bytes, bytes],
) -> None:
    from scopekeeper.launch import signals

    environment = original_environment()
    if "require" in options:
        from scopekeeper.launch.path_options import require

        require(options["require"])
    program = resolve(command[0], environment)
    inner = defaults | environment
    pipe_ignored = signals.pipe_was_ignored()
    handover = member = None
    whole = command
    if b"TMUX" in environment:
        from scopekeeper.launch.tmux import wait_until_moved

        wait_until_moved(environment)
    try:
        if command[0].rpartition("/")[2] in _CONTAINER_PROGRAMS and "no_container" not in options:
            from scopekeeper.launch.container import hand_over_container

            handover, command = hand_over_container(options, command, program, environment)
        if handover is None and ("own" in options or "own_scope" in options):
            from scopekeeper.launch.path_options import hand_over

            handover = hand_over(options)
        _, member = contain(options, command[0], environment, inner, may_have_scratch=True)
        if handover is not None:
            handover.bind()
    except Exception as error:
        if handover is not None:  # first: what comes now may fail for lack of descriptors or memory
            handover.withdraw()
            handover, command = None, whole
        from scopekeeper.launch.failure import is_unavailable, reported

        if options.get("if_unavailable") != "warn" or not is_unavailable(error):
            raise
        say(f"warning: running uncontained: {reported(error)}")
        _warn_of_paths(options)
        inner, member = environment, None
    drop_bus(inner, options)
    if "real_shell" in options:
        from scopekeeper.launch.real_shell import name_real_shell

        name_real_shell(inner)
    signals.restore(pipe_ignored=pipe_ignored)
    if last is not None:
        last()
    back = None if member is None else _redirected(member)
    execute(program, command, inner, handover, back)


def _redirected(member: "NewMember") -> "Callable[[], None] | None":
    """Replace this process's stderr if the member asks for that; return what takes it back."""
    if member.request.stderr == "inherit":
        return None
    from scopekeeper.launch.stderr import redirect

    return redirect(member)


def _warn_of_paths(options: dict[str, str]) -> None:
    for option in ("own", "scratch"):
        if option in options:
            text = f"--{option} has no effect: nothing can tell when the last user is gone"
            say(f"warning: {text}")


def drop_bus(inner: dict[bytes, bytes], options: dict[str, str]) -> None:
    """Remove the bus from the command's environment if ``no_bus`` is set."""
    if "no_bus" in options:
        for name in BUS:
            inner.pop(name, None)


def contain(
    options: dict[str, str],
    command: str,
    environment: dict[bytes, bytes],
    inner: dict[bytes, bytes],
    caller: "Caller | None" = None,
    warn: "Callable[[str], None] | None" = None,
    *,
    may_have_scratch: bool = False,
) -> "tuple[str, NewMember]":
    """Contain this process, add its identity to inner; return the scope's directory and it.

    Warnings go to warn, or to stderr. may_have_scratch: make the scratch folder that options or
    rules ask for. Raises ScopekeeperError, ValueError, OSError, LookupError.
    """
    from scopekeeper.history import launch_ledger
    from scopekeeper.launch import join
    from scopekeeper.scope import placement

    warnings = list[str]()
    caller = caller or placement.Caller()
    request, owner, where = plan(options, command, environment, caller, warnings)
    if request.gate:
        from scopekeeper.launch.gate import pass_gate

        _report(warnings, warn)  # the rules that refuse may be those before an invalid file
        pass_gate(request, where, warn or say)
    scratch = None
    if may_have_scratch and request.scratch_max is not None:
        from scopekeeper.owned.scratch import ScratchFolder

        scratch = ScratchFolder(request.session, request.lane, request.name, request.scratch_max)
    try:
        try:
            member, directory = enter(request, owner, caller, where, warnings)
        except join.OtherOwnerError:
            request.run = request.run_beside(owner.label)
            member, directory = enter(request, owner, caller, where, warnings)
        if scratch is not None:
            inner[b"TMPDIR"] = scratch.bind()
    except Exception:
        if scratch is not None:
            scratch.withdraw()
        raise
    warn_of_ignored(request, owner, warnings)
    _report(warnings, warn)
    tell(inner, member)
    fields = member.ledger_fields(directory[len(caller.mount) :])
    launch_ledger.append(launch_ledger.line(fields))
    return directory, member


def _report(warnings: list[str], warn: "Callable[[str], None] | None") -> None:
    """Report the warnings, each once."""
    for text in warnings:
        if warn is not None:
            warn(text)
        else:
            say(f"warning: {text}")
    warnings.clear()


def enter(
    request: "Request",
    owner: "LaunchOwner",
    caller: "Caller",
    where: "Place",
    warnings: list[str],
    kind: "Callable[[Request, LaunchOwner], NewMember] | None" = None,
) -> "tuple[NewMember, str]":
    """Make room, enter the scope, and return this process's member and the scope's directory."""
    from scopekeeper.launch import join
    from scopekeeper.launch.member import NewMember

    if request.replace:
        from scopekeeper.launch.make_way import replace_earlier

        replace_earlier(request, owner, warnings)
    if request.room:
        from scopekeeper.launch.make_way import make_room

        make_room(request, owner, where, warnings)
    member = (kind or NewMember)(request, owner)
    return member, join.contain(member, caller, where, warnings)


def plan(
    options: dict[str, str],
    command: str,
    environment: dict[bytes, bytes],
    caller: "Caller",
    warnings: list[str],
) -> "tuple[Request, LaunchOwner, Place]":
    """Return the request, its owner and the place of its scope.

    Raises ScopekeeperError, ValueError, OSError, LookupError.
    """
    from scopekeeper import launch
    from scopekeeper.clients.variables import may_name
    from scopekeeper.kernel import proc
    from scopekeeper.launch.request import Request
    from scopekeeper.scope import choose_placement
    from scopekeeper.scope.client import client_of_stdin
    from scopekeeper.scope.owner import find_owner
    from scopekeeper.users import home_of

    rules = None
    configured = (
        proc.exists("/etc/scopekeeper")
        or b"SCOPEKEEPER_CONFIG" in posix.environ
        or proc.exists(home_of(caller.uid) + _USERS_RULES)
    )
    if configured:
        from scopekeeper.policy.cached import CachedRules

        rules = CachedRules(warnings)
    client = options.get("parent") or (
        client_of_stdin() if options.get("kind", "mcp") == "mcp" else ""
    )
    named = None
    if may_name(options, environment, configured=configured):
        launch.load_later("scopekeeper.clients.identity")
        from scopekeeper.clients.identity import of_launch

        named = of_launch(
            options, environment, client, warnings,
            configured=configured, scope=caller.scope_directory,
        )  # fmt: skip
    request = Request(options, environment, command, rules, named)
    if request.ignores_replace:
        warnings.append("replace = true has no effect: name the server with --name")
    request.launched_in, request.continues = caller.launched_in(), caller.continues()
    starter, inner = (named.owner if named else "") or client, ""
    if caller.enclosing is not None and not request.owner:
        launch.load_later("scopekeeper.clients.identity")
        from scopekeeper.clients.identity import client_within

        inner = client_within(caller.path, starter, configured=configured)
    owner = find_owner(caller, request.owner, starter, inner)
    request.session = request.session or owner.label
    outlives = request.lifetime != "gateway"
    return request, owner, choose_placement.find(caller, request.placement, outlives=outlives)


def warn_of_ignored(request: "Request", owner: "LaunchOwner", warnings: list[str]) -> None:
    """Add a warning for a client's variable that does not count, once for each owner."""
    if request.ignored:
        from scopekeeper.clients import ignored

        ignored.warn(request.ignored, owner, warnings)


def tell(inner: dict[bytes, bytes], member: "NewMember") -> None:
    """Write the member's identity into the command's environment."""
    request = member.request
    for name, value in (
        ("SESSION", request.session),
        ("LANE", request.lane),
        ("RUN", request.run),
        ("KIND", request.kind),
        ("SCOPE", member.unit),
        ("MEMBER", member.leaf),
    ):
        key = b"SCOPEKEEPER_" + name.encode()
        inner.pop(key, None)
        if value:
            inner[key] = value.encode("utf-8", "surrogateescape")
    inherited = inner.get(b"SCOPEKEEPER_SESSION_ID")
    if inherited is not None and inherited.decode("utf-8", "surrogateescape") != request.session_id:
        del inner[b"SCOPEKEEPER_SESSION_ID"]  # of another session or an earlier life of it


def _fail(error: Exception) -> None:
    from scopekeeper.errors import FAILED
    from scopekeeper.launch.failure import reported

    say(reported(error))
    posix._exit(FAILED)
