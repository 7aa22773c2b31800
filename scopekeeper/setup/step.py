"""What a step of ``setup`` is: it finds, does and undoes one kind of change."""

import enum
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scopekeeper.errors import ConfigError, UnavailableError
from scopekeeper.install.install import places_of
from scopekeeper.install.locations import Locations
from scopekeeper.mcp_configs.program import installed
from scopekeeper.systemd.systemctl import Systemctl

Facts = dict[str, list[str]]
"""What a step records to undo itself."""


class Need(enum.Enum):
    """What a finding asks for."""

    NOTHING = "contained"
    CHANGE = "not contained"
    """``setup`` does it."""
    HAND = "needs a hand"
    """Only its user can do it."""
    ADVICE = "advice"
    """As HAND, but all is contained without it."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing on this machine, and what would be done with it."""

    step: str
    """The name of the step that found it."""
    what: str
    """Its name for people: a client, a unit."""
    need: Need
    detail: str
    """What there is now; one clause."""
    will: str = ""
    """What would be done with it."""
    where: str = ""
    """The file that would be changed, as people write it."""
    why: str = ""
    """What for; a sentence, the same for all changes of a kind."""
    command: str = ""
    """What to type instead, or by hand."""
    target: str = ""
    """The file or unit that is changed; '' if none is."""
    facts: Facts = field(default_factory=dict)
    """What is recorded before it is changed."""
    late_facts: Callable[[], Facts] | None = None
    """Returns more of them right before the change: an earlier one may have been to the same file.

    May raise ScopekeeperError.
    """


@dataclass(slots=True)
class Outcome:
    """What was done or undone, in sentences."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    """What runs, and starts contained only at its next start."""
    left: list[str] = field(default_factory=list)
    """What an undo leaves, and why."""
    has_backup: bool = False
    """Whether a file as it was is kept beside the changed one."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What all steps need to know."""

    environment: Mapping[str, str]
    documents: Callable[[], Mapping[str, str]]
    """Returns the manual pages and completions by their path below a ``share`` folder."""
    shell_commands: bool = False
    """Whether Claude Code's shell commands are to be contained, too."""

    @property
    def manager(self) -> str:
        """The manager of this user's units."""
        return "user" if os.geteuid() else "system"

    @property
    def option(self) -> str:
        """The option of systemctl for it, with a blank before it."""
        return " --user" if self.manager == "user" else ""

    def places(self) -> Locations:
        """Return the folders of the manager; raises ConfigError."""
        return places_of(self.manager, self.environment)

    def systemctl(self) -> Systemctl:
        """Connect to the manager; raises UnavailableError if none answers."""
        return Systemctl(self.manager, self.places().units)

    def has_systemd(self) -> bool:
        """Return whether the manager answers."""
        return not self.without_systemd()

    def without_systemd(self) -> str:
        """Return why no unit can be looked at; '' if the manager answers.

        It may also be the manager of another home.
        """
        try:
            self.systemctl()
        except (UnavailableError, ConfigError) as error:
            return error.message
        return ""

    def launcher(self) -> tuple[str, str]:
        """Return the launcher as every client finds it, and its path; raises UsageError."""
        return installed()

    def short(self, path: str) -> str:
        """Return a path as people write it: ``~`` for the home folder."""
        home = self.environment.get("HOME", "").rstrip("/")
        return f"~{path.removeprefix(home)}" if home and path.startswith(f"{home}/") else path


def gone(short: str, command: str) -> str:
    """Return what an undo leaves of a file that is gone, and is forgotten."""
    return f"{short} is gone; should it come back: {command}"


class Step(Protocol):
    """One kind of change. Each of its functions may raise ScopekeeperError."""

    name: str
    """Marks its entries in the record."""

    def find(self, machine: Machine, /) -> list[Found]:
        """Return what is there, and what would be done; changes nothing."""

    def do(self, machine: Machine, found: Found, /) -> Outcome:
        """Do what a finding asks for; if it raises, nothing was changed."""

    def undo(self, machine: Machine, target: str, facts: Facts, /, *, dry_run: bool) -> Outcome:
        """Take back what ``do`` did, whole or in part; what was changed since stays."""
