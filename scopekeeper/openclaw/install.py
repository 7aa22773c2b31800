"""Installs and removes all parts for one gateway."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scopekeeper.errors import ConfigError, ManagerError
from scopekeeper.install.apply import prune, write
from scopekeeper.install.gateway_drop_in import leaves_behind
from scopekeeper.install.plan import FileAction, FileStep
from scopekeeper.mcp_configs import edit_diff, files
from scopekeeper.mcp_configs.document import Edit, ParseError
from scopekeeper.mcp_configs.program import is_missing
from scopekeeper.mcp_configs.servers import PROGRAM
from scopekeeper.mcp_configs.wrap import Launcher, WrapOutcome
from scopekeeper.openclaw import configuration, files_installed, rewrap, running
from scopekeeper.openclaw.locations import GatewayPaths, Package
from scopekeeper.systemd import calls

_INFINITY = (1 << 64) - 1
"""systemd's value for no limit."""


@dataclass(slots=True)
class GatewayChange:
    """What an installation or removal did, in order."""

    servers: Sequence[WrapOutcome] = ()
    backup: str = ""
    """The backup of the configuration; '' if that did not change."""
    done: list[str] = field(default_factory=list)
    """Paths written or removed."""
    verbs: dict[str, str] = field(default_factory=dict)
    """What was done to each of them: written, changed, removed."""
    diff: str = ""
    """The change of the configuration."""
    warnings: list[str] = field(default_factory=list)

    def add(self, path: str, verb: str) -> None:
        """Note what was done to a path, or would be."""
        self.done.append(path)
        self.verbs[path] = verb


def entry_for(launcher: Launcher, package: Package | None) -> configuration.PluginEntry:
    """Return the plugin's entry in the configuration."""
    return configuration.PluginEntry(
        program="" if launcher.program == PROGRAM else launcher.absolute,
        conversation_access=package is not None and package.wants_conversation_access(),
    )


def install(
    places: GatewayPaths,
    launcher: Launcher,
    package: Package | None,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> GatewayChange:
    """Contain a gateway from its next start on; raises ConfigError, with nothing changed.

    Writes the configuration last, since it names files that must exist. With force, edited files
    beside it are replaced. With dry_run, only returns what would be done.
    """
    original = files.read(places.config)
    text = original.text()
    with located(places):
        entry = entry_for(launcher, package)
        new, servers = configuration.contained(text, launcher, entry, is_missing)
    change = GatewayChange(servers)
    actions = files_installed.plan_plugin(places, force=force)
    if os.path.exists(places.unit_file):
        actions.append(files_installed.plan_drop_in(places, launcher.absolute, force=force))
    else:
        # OpenClaw 2026.9 refuses to install its unit if the unit's drop-in folder exists already
        change.warnings.append(f"this user has no {places.unit} yet; run this again after "
                               "`openclaw gateway install`")  # fmt: skip
    folder = os.path.dirname(places.unit_file)
    change.warnings += leaves_behind(places.unit, kill_mode(places), folder, " --user")
    with contextlib.ExitStack() as undoing:
        if not dry_run:
            write(actions, undoing)
        _note(actions, places, change, dry_run=dry_run)
        if new != text:
            was_wrapped = any(server.program for server in servers)
            if not dry_run:
                change.backup = _replaced(original, new, change, again=was_wrapped)
            _note_config(change, places, text, new)
        undoing.pop_all()
    if not dry_run:
        prune(actions)
    return change


def kill_mode(places: GatewayPaths) -> str:
    """Return KillMode= of the gateway's unit; '' if the manager does not say."""
    with contextlib.suppress(ManagerError):
        return calls.service_property("user", places.unit, "KillMode")
    return ""


def restart_time(places: GatewayPaths) -> float | None:
    """Return the seconds that a stop of the gateway may take; None if the manager does not say."""
    with contextlib.suppress(ManagerError, ValueError):
        limit = int(calls.service_property("user", places.unit, "TimeoutStopUSec"))
        return limit / 1e6 if limit < _INFINITY else None
    return None


def uninstall(places: GatewayPaths, *, force: bool = False, dry_run: bool = False) -> GatewayChange:
    """Undo install; raises ConfigError. Edited files stay, unless force is set."""
    change = GatewayChange()
    actions = files_installed.plan_removal(places, force=force)
    unwrapped, kept = rewrap.unwrap_bundles(places, dry_run=dry_run)
    for path, verb in unwrapped:
        change.add(path, verb)
    change.warnings += kept
    if os.path.lexists(places.config):
        original = files.read(places.config)
        text = original.text()
        with located(places):
            new, change.servers = configuration.released(text)
        if new != text:
            if not dry_run:
                change.backup = files.replace(original, new.encode(), again=True)
            _note_config(change, places, text, new)
        if not dry_run:
            _drop_backups(original, new, places, change)
    with contextlib.ExitStack() as undoing:
        if not dry_run:
            write(actions, undoing)
        undoing.pop_all()
    _note(actions, places, change, dry_run=dry_run)
    if not dry_run:
        prune(actions)
        running.forget_ended()
    return change


def _replaced(original: files.Original, new: str, change: GatewayChange, *, again: bool) -> str:
    """Replace the configuration; return its backup, '' if that is of an earlier installation."""
    text = original.text()

    def is_outdated(old: bytes) -> bool:
        return configuration.holds_servers(text, old)

    backup = files.replace(original, new.encode(), again=again, is_outdated=is_outdated)
    if again or files.read(backup).raw == original.raw:
        return backup
    change.warnings.append(
        f"{backup}: kept: it is of an earlier installation, and has servers that {original.path} "
        "lacks"
    )
    return ""


def _note_config(change: GatewayChange, places: GatewayPaths, text: str, new: str) -> None:
    change.add(places.config, "changed")
    change.diff = edit_diff.unified(places.config, text, [Edit(0, len(text), new)])


def _drop_backups(
    original: files.Original, new: str, places: GatewayPaths, change: GatewayChange
) -> None:
    removed, kept = files.drop_backups(original, new.encode())
    for path in removed:
        change.add(path, "removed")
    if change.backup not in kept:
        change.backup = ""
    change.warnings += [f"{path}: kept: it differs from {places.config}" for path in kept]


def _note(
    actions: Sequence[FileAction], places: GatewayPaths, change: GatewayChange, *, dry_run: bool
) -> None:
    """Add the actions on files to change, and reload the manager for the drop-in."""
    verbs = {FileStep.WRITE: "written", FileStep.REMOVE: "removed"}
    done = {action.path: verbs[action.step] for action in actions if action.step in verbs}
    plugin = [verb for path, verb in done.items() if path.startswith(f"{places.plugin}/")]
    if plugin:
        change.add(places.plugin, "written" if "written" in plugin else "removed")
    if places.drop_in in done:
        change.add(places.drop_in, done[places.drop_in])
        if not dry_run:
            _reload(change)
    kept = [action for action in actions if action.step is FileStep.KEEP]
    change.warnings += [f"{action.path}: kept: {action.why}" for action in kept]


@contextlib.contextmanager
def located(places: GatewayPaths) -> Iterator[None]:
    """Turn a ParseError into a ConfigError that names file, line and column."""
    try:
        yield
    except ParseError as error:
        where = f"{places.config}:{error.line}:{error.column}"
        raise ConfigError(f"{where}: {error.message}") from None


def _reload(change: GatewayChange) -> None:
    try:
        calls.reload("user")
    except ManagerError as error:
        change.warnings.append(f"cannot reload, run `systemctl --user daemon-reload`: {error}")
