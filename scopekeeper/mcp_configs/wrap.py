"""Puts ``scopekeeper run`` before the commands of MCP servers in a text, and removes it. Pure.

Both change as little as possible. The command moves into the args as it is written, and back: so
``unwrap`` restores the text to the byte, except for what was edited in between.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import Edit, ParseError, Raw, apply
from scopekeeper.mcp_configs.run_options import options_in, spelled
from scopekeeper.mcp_configs.server_edits import (
    Change,
    Launcher,
    unwrap_server,
    update_server,
    wrap_server,
)
from scopekeeper.mcp_configs.servers import (
    McpServer,
    ServerState,
    classify,
    inner_command,
    read,
)

__all__ = ["Launcher", "Rewrite", "Selection", "WrapOutcome", "look", "unwrap", "wrap"]


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected servers by name; without names, all."""

    only: frozenset[str] = frozenset()
    excepted: frozenset[str] = frozenset()

    def leaves_out(self, name: str) -> bool:
        """Return whether the server is not selected."""
        return name in self.excepted or bool(self.only and name not in self.only)


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

    def change(server: McpServer, state: ServerState) -> Change | None:
        asked_for = state is ServerState.DISABLED and server.name in chosen.only
        if state is ServerState.NOT_WRAPPED or asked_for:
            return wrap_server(text, kind, server, launcher)
        if state is ServerState.WRAPPED and (update or launcher.options):
            return update_server(text, kind, server, launcher, update=update)
        return None

    return _rewrite(text, kind, chosen, change)


def unwrap(text: str, kind: Format, chosen: Selection) -> Rewrite:
    """Restore the command of every wrapped server; raises ParseError."""

    def change(server: McpServer, state: ServerState) -> Change | None:
        return unwrap_server(text, kind, server) if state is ServerState.WRAPPED else None

    return _rewrite(text, kind, chosen, change)


def _rewrite(
    text: str,
    kind: Format,
    chosen: Selection,
    change: Callable[[McpServer, ServerState], Change | None],
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
    words = server.words
    program, options = _launched(words) if state is ServerState.WRAPPED else ("", ())
    command = words[0] if words else server.table.get(server.keys[0])
    odd = [arg for arg in words[1:] if not isinstance(arg, str)]
    return WrapOutcome(
        server.name, server.place, state, detail,
        command=command if isinstance(command, str) else "",
        odd_args=tuple(
            arg.text if isinstance(arg, Raw) else json.dumps(arg, default=str) for arg in odd
        ),
        program=program, launcher=program, options=options,
    )  # fmt: skip


def _outcome(found: WrapOutcome, done: Change) -> WrapOutcome:
    launcher, options = found.launcher, found.options
    if done.edits:
        is_wrapped = done.state is ServerState.WRAPPED
        launcher, options = _launched(done.words) if is_wrapped else ("", ())
    return replace(
        found, state=done.state, detail=done.detail, changed=bool(done.edits), launcher=launcher,
        options=options, differs=done.differs, updated=done.updated, dropped=done.dropped,
        added=done.added,
    )  # fmt: skip


def _launched(words: list[object]) -> tuple[str, tuple[str, ...]]:
    """Return the launcher of a wrapped server, and its options as they are typed in a shell."""
    own = inner_command(words[1:])
    options = [str(word) for word in words[1 : 1 + own]]
    return str(words[0]), tuple(spelled(options_in(options))) if options else ()


def _set(expected: object, server: McpServer, done: Change) -> None:
    for key in server.path:
        expected = expected[key]  # type: ignore[index]  # a table, since the server was found
    assert isinstance(expected, dict)  # noqa: S101  as above
    expected.update(done.sets)
    for key in done.removes:
        del expected[key]
    command, args = server.keys
    if server.is_list:
        expected[command] = done.words
        return
    expected[command] = done.words[0]
    if done.has_args:
        expected[args] = done.words[1:]
    else:
        del expected[args]


def _prove(rewritten: str, kind: Format, expected: object) -> None:
    """Parse the rewritten text, and check that its values are the expected ones."""
    try:
        now = read(rewritten, kind).data
    except ParseError:
        now = None
    if now != expected:
        text = "nothing was changed: a server is written in a way that cannot be rewritten"
        raise ConfigError(text, "please report this, with that server")
