"""What is known of one client's hooks: its file, its events, and how it writes one. Pure.

The fields but the first are the keys of ``[NAME.hook_settings]`` in ``clients.toml``; ``dialect``
is its ``language``.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

from scopekeeper.mcp_configs.json5 import Dialect
from scopekeeper.mcp_configs.yaml import YamlDialect

_PROGRAM = "scopekeeper"
"""The file name of the launcher; a hook is recognised by it."""
TABLE = "hooks"
"""The key at the top of a file with the hooks, in each client."""
_VERB = "hook"
_IF_THERE = "command -v {program} >/dev/null && {words}; true"
"""The command in a shell: silence and status 0 if the launcher is gone. It is the same in sh, bash,
zsh and fish; fish ends the line at an unknown command, so that ``||`` does not catch it."""


@dataclass(frozen=True, slots=True)
class HookFormat:
    """The hooks of one client: a list for each event, below the key ``hooks``."""

    client: str
    """The client's short name, for ``scopekeeper hook``."""
    events: tuple[str, ...]
    folders: tuple[str, ...]
    """The client's own folder; each starts with a variable, and the first that is set counts."""
    file: str
    """The file in that folder."""
    dialect: Dialect | YamlDialect | None
    """None for TOML."""
    is_grouped: bool = True
    """Whether an item of the list has a list of handlers, ``hooks``, instead of being one."""
    is_shell: bool = True
    """Whether a shell runs the command; else it is only split into words, as a shell does."""
    key: str = "command"
    """The key of the command in a handler."""
    before: tuple[tuple[str, str | int], ...] = (("type", "command"),)
    """The keys of a handler before its command, with their values."""
    after: tuple[tuple[str, str | int], ...] = ()
    """Those after it."""
    off: tuple[tuple[tuple[str, ...], bool], ...] = ()
    """Settings in the file that switch all hooks off, each with the value that does so."""
    beside: tuple[tuple[str, str | int], ...] = ()
    """The other keys of the file, if it is one of scopekeeper's own."""
    note: str = ""
    """What the user has to do before the client runs a new hook; '' if nothing."""

    def command(self, program: str, event: str) -> str:
        """Return the command of a hook."""
        words = self._words(program, event)
        if not self.is_shell:
            return words
        return _IF_THERE.format(program=shlex.quote(program), words=words)

    def program(self, command: object, event: str) -> str:
        """Return the launcher in the command of a hook, whoever wrote it; '' if it is no hook.

        A command that does anything else too is the user's.
        """
        try:
            words = shlex.split(command) if isinstance(command, str) else []
        except ValueError:  # an open quote
            return ""
        for program in words:
            if PurePosixPath(program).name == _PROGRAM:
                ours = (self.command(program, event), self._words(program, event))
                return program if command in ours else ""
        return ""

    def _words(self, program: str, event: str) -> str:
        return shlex.join([program, _VERB, self.client, event])

    def handler(self, command: str) -> dict[str, object]:
        """Return the handler for a command."""
        return {**dict(self.before), self.key: command, **dict(self.after)}

    def item(self, command: str) -> dict[str, object]:
        """Return the item of an event's list for a command."""
        handler = self.handler(command)
        return {TABLE: [handler]} if self.is_grouped else handler

    @property
    def empty(self) -> str:
        """The text of a new file without any hook."""
        return "{}\n" if isinstance(self.dialect, Dialect) else ""

    def switched_off(self, data: object) -> str:
        """Return the setting in a file that switches its hooks off; '' if there is none."""
        for path, value in self.off:
            here = data
            for key in path:
                here = here.get(key) if isinstance(here, dict) else None
            if here is value:
                return f"{'.'.join(path)} is {str(value).lower()}"
        return ""


def scalar(value: object) -> str:
    """Return a text or number as JSON, TOML and YAML all read it."""
    # JSON leaves DEL as it is, which the others forbid
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
