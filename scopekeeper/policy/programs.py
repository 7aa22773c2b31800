"""Finds the programs of commands for ends and events."""

import os
from collections.abc import Iterator

from scopekeeper.errors import ScopekeeperError
from scopekeeper.policy.command_rules import CommandRule
from scopekeeper.policy.rules import Policy

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are if nothing else is known."""


def program(word: str) -> str:
    """Return the path of a program; raises ScopekeeperError."""
    path = os.environ.get("PATH") or PATH
    found = [word] if "/" in word else [f"{each}/{word}" for each in path.split(":") if each]
    for each in found:
        if os.path.isfile(each) and os.access(each, os.X_OK):
            return each
    if "/" in word and os.path.isfile(word):
        raise ScopekeeperError(f"{word} is not executable")
    if "/" in word:
        raise ScopekeeperError(f"there is no program {word}")
    raise ScopekeeperError(f"there is no program {word} in PATH; give its whole path")


def missing(policy: Policy) -> Iterator[tuple[CommandRule, str]]:
    """Yield each enabled command whose program cannot be executed, and why."""
    for rule in (each for each in policy.commands if each.enabled):
        try:
            program(rule.argv[0])
        except ScopekeeperError as error:
            yield rule, error.message
