"""The edits that wrap, update and unwrap one server. Pure."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from scopekeeper.mcp_configs import passed_on, yaml_edit
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import Edit, Pair, Value
from scopekeeper.mcp_configs.quoting import member_name, quoter
from scopekeeper.mcp_configs.run_options import NAME, name_in, options_in, spelled
from scopekeeper.mcp_configs.servers import McpServer, ServerState, inner_command
from scopekeeper.mcp_configs.text_edit import (
    remove_items,
    remove_member,
    replace_items,
    without_values,
)

_KIND = ("--kind", "mcp")
"""Said on the launch: it ends as soon as its stdin is closed and nobody can talk to it."""
_KIND_AND_VARIABLES = ("--kind=mcp",)
"""The same, if the server's variables were changed too, so that unwrap restores them."""
_ENVIRONMENTS = ("env", "envs", "environment")
"""The keys of a server's own variables."""
_LAST_LINE = re.compile(r"(?:\r\n|[\n\r])[^\n\r]*\Z")
_PLAIN_COLON = re.compile(r"[ \t]*[:=][ \t]*")


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
class Change:
    """What becomes of a server."""

    state: ServerState
    words: list[object] = field(default_factory=list)
    """Its program and arguments afterwards."""
    has_args: bool = True
    """Whether it then has args."""
    edits: list[Edit] = field(default_factory=list)
    detail: str = ""
    differs: bool = False
    updated: bool = False
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    sets: dict[str, object] = field(default_factory=dict)
    """Other keys of the server that change, with their values."""
    removes: tuple[str, ...] = ()
    """Other keys of the server that it loses."""


def wrap_server(text: str, kind: Format, server: McpServer, launcher: Launcher) -> Change:
    """Wrap a server that is not wrapped."""
    command, had = server.command, server.words
    assert command is not None  # noqa: S101  its state implies one
    array = command.value if server.is_list else server.args.value if server.args else None
    first = array.items[0] if server.is_list and array else command.value
    quote = quoter(kind, text[first.start])
    program = _launcher_for(server, launcher)
    empty = array is not None and not array.items
    # `--name=NAME` marks args that were empty, so that unwrap restores empty args
    name = member_name(server.name)
    named = [f"{NAME}={name}"] if empty else [NAME, name]
    passes = _passes(kind, server)
    mcp = _KIND_AND_VARIABLES if passes else _KIND
    words = ["run", *named, *mcp, *(launcher.options or ()), "--"]
    comma = "," if text[command.key_end : command.value.start].endswith(":") else ", "
    changed = Change(ServerState.WRAPPED, [program, *words, *had], detail=str(had[0]))
    if server.is_list:
        assert array is not None  # noqa: S101  it is the command
        changed.edits.extend(_prepend(text, array, list(map(quote, [program, *words])), comma))
        return changed
    ours = [*map(quote, words), _of(text, command.value)]
    changed.edits.append(Edit(command.value.start, command.value.end, quote(program)))
    if array is None:
        changed.edits.append(_new_member(text, server, command, server.keys[1], ours, comma))
    elif empty:
        at = array.start + 1
        changed.edits.append(Edit(at, at, comma.join(ours)))
    else:
        changed.edits.extend(_prepend(text, array, ours, comma))
    if passes:
        changed.edits.append(_pass_on(text, kind, server, comma))
        changed.sets.update(passes)
    return changed


def _passes(kind: Format, server: McpServer) -> dict[str, object]:
    """Return the server's list of variables with those that are added; {} if none are."""
    had = server.table.get(kind.passes, []) if kind.passes else None
    is_there = server.passed is not None or kind.passes not in server.table
    if not is_there or not isinstance(had, list) or passed_on.is_complete(had):
        return {}
    return {kind.passes: [*had, *passed_on.VARIABLES]}


def _pass_on(text: str, kind: Format, server: McpServer, comma: str) -> Edit:
    """Add the variables that name a session to the list of a server, or the list with them."""
    command, passed = server.command, server.passed
    assert command is not None  # noqa: S101  its state implies one
    if passed is None:
        words = map(quoter(kind, text[command.value.start]), passed_on.VARIABLES)
        beside = server.args or command
        if server.siblings is not None and beside not in server.siblings:
            beside = command
        return _new_member(text, server, beside, kind.passes, list(words), comma)
    array = passed.value
    first = array.items[0].start if array.items else array.start + 1
    words = map(quoter(kind, text[first]), passed_on.VARIABLES)
    between = _separator(text[array.start + 1 : first], ", ")
    return passed_on.add(array, list(words), between)


def _prepend(text: str, array: Value, words: Sequence[str], comma: str) -> list[Edit]:
    """Add items before the first one."""
    if array.block:
        return yaml_edit.prepend(text, array, words)
    first = array.items[0].start
    between = _separator(text[array.start + 1 : first], comma)
    return [Edit(first, first, "".join(word + between for word in words))]


def _launcher_for(server: McpServer, launcher: Launcher) -> str:
    tables = (server.data, server.table)
    own = [table.get(key) for table in tables if isinstance(table, dict) for key in _ENVIRONMENTS]
    own_path = any(isinstance(environment, dict) and "PATH" in environment for environment in own)
    return launcher.absolute if own_path else launcher.program


def update_server(
    text: str, kind: Format, server: McpServer, launcher: Launcher, *, update: bool
) -> Change | None:
    """Give a wrapped server another launcher and options; its name stays.

    Without update, only report options that differ. None if there is nothing to change.
    """
    command, all_words = server.command, server.words
    pair = command if server.is_list else server.args
    assert command is not None  # noqa: S101  its state implies both
    assert pair is not None  # noqa: S101
    array = pair.value
    own, program = inner_command(all_words[1:]), _launcher_for(server, launcher)
    if not own or not isinstance(all_words[1 + own], str):
        return None
    words = before = [str(word) for word in all_words[1 : 1 + own]]
    passes = _passes(kind, server) if update and launcher.options is not None else {}
    if launcher.options is not None:
        is_marked = passes or _KIND_AND_VARIABLES[0] in before
        mcp = _KIND_AND_VARIABLES if is_marked else _KIND
        words = ["run", *name_in(before, server.name), *mcp, *launcher.options, "--"]
    had, gets = spelled(options_in(before)), spelled(options_in(words))
    is_same = sorted(had) == sorted(gets) and not passes
    if is_same and (not update or all_words[0] == program):
        return None
    if not update:
        given = shlex.join(launcher.options or ())
        return Change(ServerState.WRAPPED, detail=f"its options are not: {given}", differs=True)
    number = own + server.is_list
    quote = quoter(kind, text[array.items[number].start])
    comma = "," if text[command.key_end : command.value.start].endswith(":") else ", "
    new = [program, *words] if server.is_list else words
    edits = _replace_first(text, array, number, list(map(quote, new)), comma)
    if not server.is_list:
        edits.append(Edit(command.value.start, command.value.end, quote(program)))
    dropped = tuple(option for option in had if option not in gets)
    added = tuple(option for option in gets if option not in had)
    detail = _updates(str(all_words[1 + own]), dropped, added)
    left = [program, *words, *all_words[1 + own :]]
    if passes:
        edits.append(_pass_on(text, kind, server, comma))
    return Change(ServerState.WRAPPED, left, True, edits, detail, updated=True, dropped=dropped,
                  added=added, sets=passes)  # fmt: skip


def _replace_first(
    text: str, array: Value, number: int, words: Sequence[str], comma: str
) -> list[Edit]:
    """Replace so many first items."""
    if array.block:
        removed = yaml_edit.remove_first(text, array, number - 1)
        return [*yaml_edit.prepend(text, array, words), *removed]
    between = _separator(text[array.start + 1 : array.items[0].start], comma)
    return replace_items(array, number, words, between, text)


def _updates(command: str, dropped: tuple[str, ...], added: tuple[str, ...]) -> str:
    """Return the command of an updated server, and what has changed before it."""
    parts = [
        (word, " ".join(options)) for word, options in (("dropped", dropped), ("added", added))
    ]
    changes = [f"{word}: {options}" for word, options in parts if options]
    return "; ".join([command, *(changes or ["another launcher"])])


def _new_member(
    text: str, server: McpServer, before: Pair, name: str, words: Sequence[str], comma: str
) -> Edit:
    """Add a list after another member, in the same style."""
    if server.block:
        return yaml_edit.new_member(text, before, name, words)
    array = f"[{comma.join(words)}]"
    key = text[before.name_start : before.key_end]
    mark = key[0] if key[0] in "\"'" else ""
    colon = text[before.key_end : before.value.start]
    if not _PLAIN_COLON.fullmatch(colon):
        colon = ": " if ":" in colon else " = "
    member = f"{text[before.start : before.name_start]}{mark}{name}{mark}{colon}{array}"
    if server.siblings is not None:
        end = before.value.end
        return Edit(end, end, _separator(text[: before.start], comma) + member)
    start = text.rfind("\n", 0, before.start) + 1
    indent = text[start : before.start].lstrip("\ufeff")
    end = text.find("\n", before.value.end)
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


def unwrap_server(text: str, kind: Format, server: McpServer) -> Change:
    """Restore a wrapped server."""
    changed = _unwrapped(text, server)
    own = [str(word) for word in server.words[1 : 1 + inner_command(server.words[1:])]]
    passed = server.passed
    if not changed.edits or _KIND_AND_VARIABLES[0] not in own or passed is None:
        return changed
    had = server.table.get(kind.passes)
    if passed_on.is_alone(text, passed.value):
        changed.edits.extend(_remove_member(text, server, passed))
        return replace(changed, removes=(kind.passes,))
    changed.edits.extend(passed_on.remove(text, passed.value))
    left = (
        [name for name in had if name not in passed_on.VARIABLES] if isinstance(had, list) else had
    )
    return replace(changed, sets={kind.passes: left})


def _unwrapped(text: str, server: McpServer) -> Change:
    """Restore the command of a wrapped server."""
    command, args, words = server.command, server.args, server.words
    assert command is not None  # noqa: S101  its state implies one
    own = inner_command(words[1:])
    if not own or not isinstance(words[1 + own], str):
        return Change(
            ServerState.UNCLEAR,
            detail="cannot tell where the options end and the command begins",
        )
    left = words[1 + own :]
    changed = Change(ServerState.NOT_WRAPPED, left, detail=str(left[0]))
    if server.is_list:
        changed.edits.extend(_remove_first(text, command.value, own))
        return changed
    assert args is not None  # noqa: S101  as above
    items = args.value.items
    changed.edits.append(Edit(command.value.start, command.value.end, _of(text, items[own])))
    if left[1:]:
        changed.edits.extend(_remove_first(text, args.value, own))
        return changed
    edits, has_args = _remove_all(text, server, args, own, list(map(str, words[1 : 1 + own])))
    changed.edits.extend(edits)
    return Change(changed.state, left, has_args, changed.edits, changed.detail)


def _remove_first(text: str, array: Value, last: int) -> list[Edit]:
    """Remove the items up to index last; others follow."""
    if array.block:
        return yaml_edit.remove_first(text, array, last)
    return remove_items(text, array, last, array.items[last + 1].start)


def _remove_all(
    text: str, server: McpServer, args: Pair, own: int, options: list[str]
) -> tuple[list[Edit], bool]:
    """Remove all items, up to index own, and the key if it was added; return whether it stays."""
    array = args.value
    if array.block:
        return yaml_edit.remove_member(text, args), yaml_edit.stays(text, args)
    ours = without_values(text, array)
    if any(word.startswith(f"{NAME}=") for word in options) or ours.strip():
        last = array.commas[own]
        end = array.items[own].end if last < 0 else last + 1
        return remove_items(text, array, own, end), True
    if server.block:
        return yaml_edit.remove_member(text, args), yaml_edit.stays(text, args)
    return _remove_member(text, server, args), False


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
