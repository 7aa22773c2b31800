"""Wraps the servers that have appeared since ``scopekeeper openclaw install``.

The keeper calls it when a file changes, and nobody looks on. So it does nothing if anything about a
file is doubtful.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.doubts import doubts
from scopekeeper.mcp_configs.known_clients import built_in
from scopekeeper.mcp_configs.program import is_missing
from scopekeeper.mcp_configs.servers import PROGRAM, ServerState
from scopekeeper.mcp_configs.wrap import Launcher, Selection, unwrap, wrap
from scopekeeper.openclaw import bundles, configuration
from scopekeeper.openclaw.locations import GatewayPaths

_OTHERS = 0o022
"""Permissions by which others than the owner could write."""


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """One server that was wrapped."""

    path: str
    server: str


@dataclass(slots=True)
class Outcome:
    """What was wrapped, and why not more."""

    wrapped: list[Rewrapped] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """A sentence for each file that was left as it is."""


def rewrap(
    places: GatewayPaths, excepted: frozenset[str] = frozenset(), *, dry_run: bool = False
) -> Outcome:
    """Wrap what is not wrapped in the configuration and in bundles, except servers by name.

    Raises ConfigError if the configuration cannot be read, or is not contained.
    """
    launcher = _launcher(places)
    chosen = Selection(excepted=excepted)
    outcome = Outcome()
    found = [(places.config, built_in()["openclaw"])]
    found += [(each.path, each.kind) for each in bundles.of_gateway(places)]
    for path, kind in found:
        try:
            outcome.wrapped += _rewrap(path, kind, launcher, chosen, dry_run=dry_run)
        except (ConfigError, ParseError) as error:
            words = str(error).removeprefix(f"{path}: ")
            outcome.problems.append(f"{path}: left as it is: {words}")
    return outcome


def _launcher(places: GatewayPaths) -> Launcher:
    """Return the launcher that ``openclaw install`` has written; raises ConfigError."""
    text = files.read(places.config).text()
    try:
        entry = configuration.look_at(text).entry
    except ParseError as error:
        where = f"{places.config}:{error.line}:{error.column}"
        raise ConfigError(f"{where}: {error.message}") from None
    if not isinstance(entry, dict) or entry.get("enabled") is False:
        raise ConfigError(f"{places.config}: this gateway is not contained",
                          "scopekeeper openclaw install")  # fmt: skip
    settings = entry.get("config")
    program = settings.get("program", PROGRAM) if isinstance(settings, dict) else PROGRAM
    if not isinstance(program, str) or os.path.basename(program) != PROGRAM or is_missing(program):
        raise ConfigError(f"{places.config}: there is no launcher {program!r}",
                          "scopekeeper openclaw install")  # fmt: skip
    return Launcher(program, program, ("--real-shell",))


def _rewrap(
    path: str, kind: Format, launcher: Launcher, chosen: Selection, *, dry_run: bool
) -> list[Rewrapped]:
    original = files.read(path)
    text = original.text()
    made = wrap(text, kind, launcher, chosen)
    changed = [each for each in made.outcomes if each.changed]
    if not changed:
        return []
    for doubt in _doubts(original):
        raise ConfigError(f"{path}: {doubt}")
    for each in made.outcomes:
        if each.state is ServerState.UNCLEAR:
            raise ConfigError(f"{path}: server {each.name} is not clear: {each.detail}")
        for doubt in doubts(each) if each.changed else ():
            raise ConfigError(f"{path}: server {each.name}: {doubt}")
    if not dry_run:
        files.replace(original, made.text.encode(), again=True)
    return [Rewrapped(path, each.name) for each in changed]


def _doubts(original: files.Original) -> Iterator[str]:
    """Yield why nobody should write to a file unasked."""
    if os.path.abspath(original.path) != original.target:
        yield f"it is reached through a link, and is {original.target}"
    folder = os.stat(os.path.dirname(original.target))
    for what, seen in (("it", original.status), ("its folder", folder)):
        if seen.st_uid != os.geteuid():
            yield f"{what} belongs to another user"
        elif stat.S_IMODE(seen.st_mode) & _OTHERS:
            yield f"others can write to {what}"


def unwrap_bundles(
    places: GatewayPaths, *, dry_run: bool = False
) -> tuple[list[tuple[str, str]], list[str]]:
    """Undo it in the bundles of other plugins.

    Returns the paths with what was done to each, and a sentence for each that stays.
    """
    done: list[tuple[str, str]] = []
    problems: list[str] = []
    for each in bundles.of_gateway(places):
        try:
            original = files.read(each.path)
            text = unwrap(original.text(), each.kind, Selection()).text
            if text == original.text():
                continue
            done.append((each.path, "changed"))
            if dry_run:
                continue
            files.replace(original, text.encode(), again=True)
            removed, kept = files.drop_backups(original, text.encode())
            done += [(path, "removed") for path in removed]
            problems += [f"{path}: kept: it differs from {each.path}" for path in kept]
        except (ConfigError, ParseError) as error:
            problems.append(f"{each.path}: left as it is: {error}")
    return done, problems
