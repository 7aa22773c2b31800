"""Puts ``scopekeeper run`` before the commands of MCP servers in a text, and removes it. Pure.

Both change as little as possible. The command moves into the args as it is written, and back: so
``unwrap`` restores the text to the byte, except for what was edited in between.
"""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from scopekeeper.mcp_clients.document import Edit, Pair, Raw, Value, apply
from scopekeeper.mcp_clients.formats import Format
from scopekeeper.mcp_clients.quoting import member_name, quoter
from scopekeeper.mcp_clients.run_options import NAME, name_in, options_in, spelled
from scopekeeper.mcp_clients.servers import (
    Configuration,
    McpServer,
    ServerState,
    classify,
    inner_command,
    read,
)
from scopekeeper.mcp_clients.text_edit import (
    remove_items,
    remove_member,
    replace_items,
    without_values,
)

_KIND = ("--kind", "mcp")
"""Said on the launch: it ends as soon as its stdin is closed and nobody can talk to it."""
_LAST_LINE = re.compile(r"(?:\r\n|[\n\r])[^\n\r]*\Z")
_PLAIN_COLON = re.compile(r"[ \t]*[:=][ \t]*")


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected servers by name; without names, all."""

    only: frozenset[str] = frozenset()
    excepted: frozenset[str] = frozenset()

    def leaves_out(self, name: str) -> bool:
        """Return whether the server is not selected."""
        return name in self.excepted or bool(self.only and name not in self.only)


@dataclass(frozen=True, slots=True)
class Launcher:
    """The words to put before a command."""

    program: str
    """The launcher as a client finds it in a usual PATH."""
    absolute: str
    """The launcher for a server that sets its own PATH."""
    options: tuple[str, ...] | None = ()
    """Options of ``run``, besides the name; None for those that a wrapped server has."""


@dataclass(frozen=True, slots=True)
class WrapOutcome:
    """The result for one server."""

    name: str
    place: tuple[str, ...]
    state: ServerState
    detail: str = ""
    changed: bool = False
    command: str = ""
    """The command in the file; '' if it is not a string."""
    odd_args: tuple[str, ...] = ()
    """Its args that are not strings."""
    program: str = ""
    """The launcher that the server had; '' if it was not wrapped."""
    launcher: str = ""
    """The launcher that it has now; '' if it is not wrapped."""
    options: tuple[str, ...] = ()
    """The options of ``run`` that it has now, each as it is typed in a shell."""
    differs: bool = False
    """Whether it stays wrapped with other options than those given."""
    updated: bool = False
    """Whether it was wrapped, and has got another launcher or other options."""
    dropped: tuple[str, ...] = ()
    """The options that an update has removed."""
    added: tuple[str, ...] = ()
    """The options that an update has added."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The rewritten text, and the result for each server."""

    text: str
    outcomes: tuple[WrapOutcome, ...]
    notes: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    """The edits that made the text from the one before."""


def look(text: str, kind: Format, chosen: Selection) -> Rewrite:
    """Classify the servers of a text, and change nothing; raises ParseError."""
    return _rewrite(text, kind, chosen, lambda _, __: None)


def wrap(
    text: str, kind: Format, launcher: Launcher, chosen: Selection, *, update: bool = False
) -> Rewrite:
    """Wrap every server that is not wrapped yet; raises ParseError.

    With update, those that are wrapped get this launcher and exactly these options.
    """

    def change(server: McpServer, state: ServerState) -> "_Change | None":
        asked_for = state is ServerState.DISABLED and server.name in chosen.only
        if state is ServerState.NOT_WRAPPED or asked_for:
            return _wrapped(text, kind, server, launcher)
        if state is ServerState.WRAPPED and (update or launcher.options):
            return _updated(text, kind, server, launcher, update=update)
        return None

    return _rewrite(text, kind, chosen, change)


def unwrap(text: str, kind: Format, chosen: Selection) -> Rewrite:
    """Restore the command of every wrapped server; raises ParseError."""

    def change(server: McpServer, state: ServerState) -> "_Change | None":
        return _unwrapped(text, server) if state is ServerState.WRAPPED else None

    return _rewrite(text, kind, chosen, change)


@dataclass(frozen=True, slots=True)
class _Change:
    state: ServerState
    command: object = None
    args: object = None
    """None to remove the args."""
    edits: list[Edit] = field(default_factory=list)
    detail: str = ""
    differs: bool = False
    updated: bool = False
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def _rewrite(
    text: str,
    kind: Format,
    chosen: Selection,
    change: Callable[[McpServer, ServerState], _Change | None],
) -> Rewrite:
    configuration = read(text, kind)
    outcomes: list[WrapOutcome] = []
    edits: list[Edit] = []
    expected = configuration.data
    for server in configuration.servers:
        found = _found(server, kind)
        if chosen.leaves_out(server.name):
            outcomes.append(replace(found, state=ServerState.LEFT_OUT, detail=""))
            continue
        done = change(server, found.state)
        outcomes.append(found if done is None else _outcome(found, done))
        if done is not None and done.edits:
            edits += done.edits
            _set(expected, server, done)  # nothing below reads what this server was
    rewritten = apply(text, edits)
    if edits:
        _prove(rewritten, kind, expected)
    return Rewrite(rewritten, tuple(outcomes), configuration.notes, tuple(edits))


def _found(server: McpServer, kind: Format) -> WrapOutcome:
    """Return the outcome for a server that is not changed."""
    state, detail = classify(server, kind)
    program, options = _launched(server.data) if state is ServerState.WRAPPED else ("", ())
    data = server.data if isinstance(server.data, dict) else {}
    command, args = data.get("command"), data.get("args")
    odd = [arg for arg in args if not isinstance(arg, str)] if isinstance(args, list) else []
    return WrapOutcome(
        server.name, server.place, state, detail,
        command=command if isinstance(command, str) else "",
        odd_args=tuple(
            arg.text if isinstance(arg, Raw) else json.dumps(arg, default=str) for arg in odd
        ),
        program=program, launcher=program, options=options,
    )  # fmt: skip


def _outcome(found: WrapOutcome, done: _Change) -> WrapOutcome:
    launcher, options = found.launcher, found.options
    if done.edits:
        now = {"command": done.command, "args": done.args}
        launcher, options = _launched(now) if done.state is ServerState.WRAPPED else ("", ())
    return replace(
        found, state=done.state, detail=done.detail, changed=bool(done.edits), launcher=launcher,
        options=options, differs=done.differs, updated=done.updated, dropped=done.dropped,
        added=done.added,
    )  # fmt: skip


def _launched(data: object) -> tuple[str, tuple[str, ...]]:
    """Return the launcher of a wrapped server, and its options as they are typed in a shell."""
    assert isinstance(data, dict)  # noqa: S101  its state implies it
    words = [str(word) for word in data["args"][: inner_command(data["args"])]]
    return str(data["command"]), tuple(spelled(options_in(words))) if words else ()


def _set(expected: object, server: McpServer, done: _Change) -> None:
    for key in (*server.place, server.name):
        expected = expected[key]  # type: ignore[index]  # a table, since the server was found
    assert isinstance(expected, dict)  # noqa: S101  as above
    expected["command"] = done.command
    if done.args is None:
        del expected["args"]
    else:
        expected["args"] = done.args


def _prove(rewritten: str, kind: Format, expected: object) -> None:
    """Parse the rewritten text, and check that its values are the expected ones."""
    again: Configuration = read(rewritten, kind)
    if again.data != expected:
        raise RuntimeError("the rewritten text does not have the expected values")


def _wrapped(text: str, kind: Format, server: McpServer, launcher: Launcher) -> _Change:
    command, data = server.command, server.data
    assert command is not None  # noqa: S101  its state implies one
    assert isinstance(data, dict)  # noqa: S101
    raw = _of(text, command.value)
    quote = quoter(kind, raw[0])
    program = _launcher_for(data, launcher)
    name = member_name(server.name)
    empty = server.args is not None and not server.args.value.items
    # `--name=NAME` marks args that were empty, so that unwrap restores empty args
    named = [f"{NAME}={name}"] if empty else [NAME, name]
    words = ["run", *named, *_KIND, *(launcher.options or ()), "--"]
    ours = [*map(quote, words), raw]
    edits = [Edit(command.value.start, command.value.end, quote(program))]
    comma = "," if text[command.key_end : command.value.start].endswith(":") else ", "
    if server.args is None:
        edits.append(_new_member(text, server, command, f"[{comma.join(ours)}]", comma))
    elif empty:
        at = server.args.value.start + 1
        edits.append(Edit(at, at, comma.join(ours)))
    else:
        first = server.args.value.items[0].start
        between = _separator(text[server.args.value.start + 1 : first], comma)
        edits.append(Edit(first, first, "".join(word + between for word in ours)))
    args = [*words, data["command"], *data.get("args", [])]
    return _Change(ServerState.WRAPPED, program, args, edits, str(data["command"]))


def _launcher_for(data: dict[str, object], launcher: Launcher) -> str:
    environment = data.get("env")
    own_path = isinstance(environment, dict) and "PATH" in environment
    return launcher.absolute if own_path else launcher.program


def _updated(
    text: str, kind: Format, server: McpServer, launcher: Launcher, *, update: bool
) -> _Change | None:
    """Give a wrapped server another launcher and options; its name stays.

    Without update, only report options that differ. None if there is nothing to change.
    """
    command, args, data = server.command, server.args, server.data
    assert command is not None  # noqa: S101  its state implies both
    assert args is not None  # noqa: S101
    assert isinstance(data, dict)  # noqa: S101
    own, program = inner_command(data["args"]), _launcher_for(data, launcher)
    if not own or not isinstance(data["args"][own], str):
        return None
    words = before = [str(word) for word in data["args"][:own]]
    if launcher.options is not None:
        words = ["run", *name_in(before, server.name), *_KIND, *launcher.options, "--"]
    had, gets = spelled(options_in(before)), spelled(options_in(words))
    if sorted(had) == sorted(gets) and (not update or data["command"] == program):
        return None
    if not update:
        given = shlex.join(launcher.options or ())
        return _Change(ServerState.WRAPPED, detail=f"its options are not: {given}", differs=True)
    items = args.value.items
    quote = quoter(kind, text[items[own].start])
    comma = "," if text[command.key_end : command.value.start].endswith(":") else ", "
    between = _separator(text[args.value.start + 1 : items[0].start], comma)
    edits = [Edit(command.value.start, command.value.end, quote(program)),
             *replace_items(args.value, own, list(map(quote, words)), between, text)]  # fmt: skip
    left = [*words, *data["args"][own:]]
    dropped = tuple(option for option in had if option not in gets)
    added = tuple(option for option in gets if option not in had)
    detail = _updates(str(data["args"][own]), dropped, added)
    return _Change(ServerState.WRAPPED, program, left, edits, detail, updated=True,
                   dropped=dropped, added=added)  # fmt: skip


def _updates(command: str, dropped: tuple[str, ...], added: tuple[str, ...]) -> str:
    """Return the command of an updated server, and what has changed before it."""
    parts = [
        (word, " ".join(options)) for word, options in (("dropped", dropped), ("added", added))
    ]
    changes = [f"{word}: {options}" for word, options in parts if options]
    return "; ".join([command, *(changes or ["another launcher"])])


def _new_member(text: str, server: McpServer, command: Pair, array: str, comma: str) -> Edit:
    """Add args after the command, in the same style."""
    key = text[command.name_start : command.key_end]
    mark = key[0] if key[0] in "\"'" else ""
    colon = text[command.key_end : command.value.start]
    if not _PLAIN_COLON.fullmatch(colon):
        colon = ": " if ":" in colon else " = "
    member = f"{text[command.start : command.name_start]}{mark}args{mark}{colon}{array}"
    if server.siblings is not None:
        end = command.value.end
        return Edit(end, end, _separator(text[: command.start], comma) + member)
    start = text.rfind("\n", 0, command.start) + 1
    indent = text[start : command.start].lstrip("\ufeff")
    end = text.find("\n", command.value.end)
    if end < 0:
        end = len(text)
        line_end = "\r\n" if "\r\n" in text else "\n"
    elif text[end - 1] == "\r":
        end, line_end = end - 1, "\r\n"
    else:
        line_end = "\n"
    return Edit(end, end, line_end + indent + member)


def _separator(before: str, comma: str) -> str:
    """Return the text to put between two items; before is the text before the first."""
    line = _LAST_LINE.search(before[len(before.rstrip()) :])
    return f",{line.group()}" if line else comma


def _unwrapped(text: str, server: McpServer) -> _Change:
    command, args, data = server.command, server.args, server.data
    assert command is not None  # noqa: S101  its state implies both
    assert args is not None  # noqa: S101
    assert isinstance(data, dict)  # noqa: S101
    items = args.value.items
    own = inner_command(data["args"])
    if not own or not isinstance(items[own].data, str):
        return _Change(
            ServerState.UNCLEAR,
            detail="cannot tell where the options end and the command begins",
        )
    rest = data["args"][own + 1 :]
    edits = [Edit(command.value.start, command.value.end, _of(text, items[own]))]
    ours = without_values(text, args.value)
    if rest:
        edits += remove_items(text, args.value, own, items[own + 1].start)
        left: object = rest
    elif any(word.startswith(f"{NAME}=") for word in data["args"][:own]) or ours.strip():
        last = args.value.commas[own]
        edits += remove_items(text, args.value, own, (items[own].end if last < 0 else last + 1))
        left = []
    else:
        edits += _remove_member(text, server, args)
        left = None
    return _Change(ServerState.NOT_WRAPPED, items[own].data, left, edits, str(items[own].data))


def _remove_member(text: str, server: McpServer, member: Pair) -> list[Edit]:
    """Remove a key with its value, but no comment."""
    end = member.value.end
    if server.siblings is None:
        blanks = len(text[: member.start].rstrip(" \t"))
        if text[:blanks].endswith("\n"):
            return [Edit(blanks - 1 - text[:blanks].endswith("\r\n"), end, "")]
        return [Edit(member.start, end, "")]
    if member not in server.siblings:  # a dotted key of another table
        return [Edit(member.start, end, "")]
    return remove_member(text, server.siblings, member)


def _of(text: str, value: Value) -> str:
    return text[value.start : value.end]
