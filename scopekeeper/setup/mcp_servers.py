"""The step that wraps the servers in the configuration files of MCP clients, as ``wrap`` does."""

import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import backups, files, formats, known_clients
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.hook_files import hook_files
from scopekeeper.mcp_configs.hooks import unregister
from scopekeeper.mcp_configs.other_files import project_files
from scopekeeper.mcp_configs.program import mark_missing
from scopekeeper.mcp_configs.rewrap import remedy_for
from scopekeeper.mcp_configs.running import running
from scopekeeper.mcp_configs.servers import ServerState, holds
from scopekeeper.mcp_configs.wrap import (
    Launcher,
    Rewrite,
    Selection,
    WrapOutcome,
    look,
    unwrap,
    wrap,
)
from scopekeeper.setup import clients_now, restarts, unreadable
from scopekeeper.setup.before import backups_of, edited, sum_of
from scopekeeper.setup.clients_now import Wrapped, own_commands
from scopekeeper.setup.step import Facts, Found, Machine, Need, Outcome, gone
from scopekeeper.setup.writable import why_not_replaced

_OWN_STEP = "openclaw"
"""The client that has a step of its own."""
_WHY = "A wrapped server ends with its session."


class McpServers:
    """Wraps the servers of every known client, a change for each file."""

    name = "servers"

    def find(self, machine: Machine) -> list[Found]:
        """Return findings for the user's own files, and for those of projects."""
        found = []
        wrapped: dict[str, Wrapped] = {}
        for path, kind in formats.found(machine.environment):
            if kind.name != _OWN_STEP:
                client = wrapped.setdefault(kind.name, Wrapped(kind.name, kind.title))
                found += self._in_file(machine, path, kind, client)
        return self._started_before(wrapped) + found + self._in_projects(machine)

    def _started_before(self, wrapped: Mapping[str, Wrapped]) -> list[Found]:
        """Return a finding for each client that runs with its servers from before."""
        found = []
        for each in clients_now.outdated([one for one in wrapped.values() if one.servers]):
            are = f", {_counted(each.outside)} in no scope" if each.outside else ""
            found.append(Found(
                self.name, each.title, Need.HAND,
                f"pid {each.pid} started before it was wrapped{are}",
                command=restarts.start_again(each.pid),
            ))  # fmt: skip
        return found

    def _in_file(self, machine: Machine, path: str, kind: Format, client: Wrapped) -> list[Found]:
        short = machine.short(path)
        try:
            original = files.read(path)
            servers = _looked_at(path, original.text(), kind)
            there = backups_of(path)
            client.servers += own_commands(original.text(), kind)
            client.since = max(client.since, _made(there))
        except (ConfigError, ParseError) as error:
            reason = unreadable.reason(machine, path, error)
            hint = error.hint if isinstance(error, ConfigError) else ""
            return [Found(self.name, kind.title, Need.HAND, f"its file cannot be read: {reason}",
                          command=hint or unreadable.corrected(path, _wrap(path)),
                          target=path)]  # fmt: skip
        bare = [each for each in servers if each.state is ServerState.NOT_WRAPPED]
        found = [
            Found(self.name, kind.title, Need.HAND, f"{each.name}: {each.detail}",
                  command=_by_hand(path, each, servers), target=path)
            for each in servers
            if each.state in (ServerState.UNCLEAR, ServerState.NO_LAUNCHER)
        ]  # fmt: skip
        refused, remedy = why_not_replaced(path) if bare else ("", "")
        number, are = _counted(len(bare)), "is" if len(bare) == 1 else "are"
        if refused:
            detail = f"{number} {are} not wrapped: {short} {refused}"
            command = remedy or f"make it writable, then: {_wrap(path)}"
            found.insert(0, Found(self.name, kind.title, Need.HAND, detail,
                                  command=command, target=path))  # fmt: skip
        elif bare:
            facts = {
                "client": [kind.name],
                "before": [sum_of(original.raw)],
                "backups": there,
                "servers": [_key(each) for each in bare],
            }
            found.insert(0, Found(
                self.name, kind.title, Need.CHANGE, f"{number} {are} not wrapped",
                will=f"wrap {number}", where=short, why=_WHY,
                command=_wrap(path), target=path, facts=facts,
                late_facts=lambda: {"since": [str(time.time())]},
            ))  # fmt: skip
            found += self._written_back(machine, path, kind)
        if not found:
            wrapped = sum(each.state is ServerState.WRAPPED for each in servers)
            detail = f"{_counted(wrapped)} wrapped" if wrapped else "no server to wrap"
            found.append(Found(self.name, kind.title, Need.NOTHING, detail, target=path))
        return found

    def _written_back(self, machine: Machine, path: str, kind: Format) -> Iterator[Found]:
        """Yield a finding if the client runs, and writes the file from its memory."""
        writes = os.path.basename(path) in kind.writes_back
        for pids in running([kind.name]).values() if writes else ():
            numbers = ", ".join(map(str, pids))
            yield Found(
                self.name, kind.title, Need.ADVICE,
                f"it runs (pid {numbers}), and writes {machine.short(path)} from its memory, which "
                "may undo this: end it first",
                target=path,
            )  # fmt: skip

    def _in_projects(self, machine: Machine) -> list[Found]:
        found = []
        for other in project_files(machine.environment):
            try:
                servers = _looked_at(other.path, files.read(other.path).text(), other.kind)
            except (ConfigError, ParseError) as error:
                reason = unreadable.reason(machine, other.path, error)
                found.append(Found(
                    self.name, other.kind.title, Need.HAND,
                    f"a project's file cannot be read: {reason}",
                    command=unreadable.corrected(other.path, _wrap(other.path)), target=other.path,
                ))  # fmt: skip
                continue
            bare = sum(each.state is ServerState.NOT_WRAPPED for each in servers)
            if bare:
                are = "is" if bare == 1 else "are"
                found.append(Found(
                    self.name, other.kind.title, Need.HAND,
                    f"{_counted(bare)} of a project {are} not wrapped",
                    why="others may share this file",
                    command=_wrap(other.path), target=other.path,
                ))  # fmt: skip
        return found

    def do(self, machine: Machine, found: Found) -> Outcome:
        """Wrap the servers of a file."""
        path, (client,) = found.target, found.facts["client"]
        kind = _format_of(machine, path, client)
        original = files.read(path)
        made = _rewrite(path, original, kind, launcher=Launcher(*machine.launcher()))
        changed = [each for each in made.outcomes if each.changed]
        text = original.text()
        again = any(each.program for each in made.outcomes)
        backup = files.replace(original, made.text.encode(), again=again,
                               is_outdated=lambda old: holds(text, old, kind))  # fmt: skip
        aside = "" if backup == original.target + backups.SUFFIX else f"; backup: {backup}"
        line = f"{machine.short(path)}: {_counted(len(changed))} wrapped{aside}"
        done = Outcome([line], has_backup=not aside)
        done.restart += restarts.of_clients([client])
        for title, pids in running([client]).items():
            numbers = ", ".join(map(str, pids))
            if os.path.basename(path) in kind.writes_back:
                done.warnings.append(
                    f"{title} (pid {numbers}) runs, and writes {path} from its memory: that may "
                    "undo this; end it, and run this again"
                )
        return done

    def undo(self, machine: Machine, target: str, facts: Facts, *, dry_run: bool) -> Outcome:
        """Unwrap the servers that ``do`` wrapped, and remove the backup that it made."""
        undone, short = Outcome(), machine.short(target)
        if not dry_run:
            files.remove_unfinished(target)
        if not os.path.lexists(target):
            undone.left.append(gone(short, f"scopekeeper unwrap {shlex.quote(target)}"))
            return undone
        (client,), (before,) = facts["client"], facts["before"]
        kind = _format_of(machine, target, client)
        original = files.read(target)
        wanted = set(facts["servers"])
        names = frozenset(json.loads(each)[-1] for each in wanted)
        made = _rewrite(target, original, kind, only=names)
        changed = [each for each in made.outcomes if each.changed]
        if any(_key(each) not in wanted for each in changed):
            only = " ".join(f"--only {shlex.quote(each.name)}" for each in changed)
            raise ConfigError(
                f"{target} has servers of one name in several tables, and setup wrapped only some",
                f"unwrap what is to be unwrapped: scopekeeper unwrap {only} {shlex.quote(target)}",
            )
        new = made.text.encode()
        if not dry_run:
            if changed:
                files.replace(original, new, again=True)
            if set(backups_of(target)) - set(facts["backups"]):
                files.drop_backups(original, new, lambda old: holds(made.text, old, kind))
        # in a dry run, the hooks of the same file are still in it
        if before in (sum_of(new), sum_of(_without_hooks(machine, target, new)) if dry_run else ""):
            undone.lines.append(f"{short}: restored to the byte")
        else:
            number = _counted(len(changed))
            undone.lines.append(f"{short}: {number} unwrapped")
            undone.left += edited(short)
        undone.restart += restarts.of_clients([client], restarts.since(facts))
        return undone


def _looked_at(path: str, text: str, kind: Format) -> tuple[WrapOutcome, ...]:
    servers = look(text, kind, Selection()).outcomes
    return mark_missing(servers, remedy_for(path, servers))


def _rewrite(
    path: str,
    original: files.Original,
    kind: Format,
    *,
    launcher: Launcher | None = None,
    only: frozenset[str] = frozenset(),
) -> Rewrite:
    """Wrap all servers with a launcher, or unwrap some; raises ConfigError that names the file."""
    try:
        if launcher is None:
            return unwrap(original.text(), kind, Selection(only))
        return wrap(original.text(), kind, launcher, Selection())
    except ParseError as error:
        where = f"{path}:{error.line}:{error.column}"
        raise ConfigError(f"{where}: {error.message}", "correct the file") from None
    except ConfigError as error:
        is_named = error.message.startswith(path)  # as in one about its encoding
        message = error.message if is_named else f"{path}: {error.message}"
        raise ConfigError(message, error.hint) from None


def _format_of(machine: Machine, path: str, client: str) -> Format:
    """Return the format of a file of a known client; raises ConfigError."""
    kind = dict(formats.found(machine.environment)).get(path) or known_clients.formats().get(client)
    if kind is None:
        raise ConfigError(f"{path}: no client is called {client!r}", "undo it: scopekeeper unwrap")
    return kind


def _without_hooks(machine: Machine, path: str, new: bytes) -> bytes:
    """Return a text without our hooks, if it is a file that has some."""
    for each in hook_files(machine.environment):
        if each.path == path:
            try:
                return unregister(new.decode(), each.kind).text.encode()
            except (ParseError, ConfigError):
                return new
    return new


def _wrap(path: str) -> str:
    return f"scopekeeper wrap {shlex.quote(path)}"


def _by_hand(path: str, server: WrapOutcome, servers: tuple[WrapOutcome, ...]) -> str:
    if server.state is ServerState.NO_LAUNCHER:
        return remedy_for(path, servers)(server).strip("`")
    return f"edit {shlex.quote(path)}"


def _made(there: Sequence[str]) -> float:
    """Return when a file was wrapped first, by its backup; 0 if it has none."""
    try:
        return os.stat(there[0]).st_mtime if there else 0.0
    except OSError:
        return 0.0


def _key(server: WrapOutcome) -> str:
    """Return what names a server in its file."""
    return json.dumps([*server.place, server.name])


def _counted(number: int) -> str:
    return f"{number} server{'' if number == 1 else 's'}"
