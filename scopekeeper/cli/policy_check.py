"""``scopekeeper policy check``."""

import sys
from collections.abc import Iterator

import click

from scopekeeper import quantities, regular_files
from scopekeeper.cli.examples import examples
from scopekeeper.cli.ls_rows import counted
from scopekeeper.cli.show import safe, warn
from scopekeeper.kernel import memory
from scopekeeper.policy.files import find
from scopekeeper.policy.load import load, text_of
from scopekeeper.policy.programs import missing
from scopekeeper.policy.rules import Policy, Setting, parse
from scopekeeper.policy.toml_file import PolicyError

_STDIN = "-"


@click.command(
    "check",
    short_help="Read the policy, or files, and report what is wrong.",
    epilog=examples("scopekeeper policy check"),
)
@click.argument("file", nargs=-1, metavar="[FILE]...")
def check_command(file: tuple[str, ...]) -> None:
    """Read the policy, or each FILE alone, and report what is wrong; - is standard input.

    Warns of files that are ignored, of a rule with which nothing could start on this machine, and
    of a command for events whose program is missing here.
    Exit status: 0 all is valid; 1 a file is not.
    """
    if not file:
        found, policy = find(), load()
        warn(found.ignored)
        click.echo(f"The policy is valid: {_counted(policy)}.")
        warn([*_impossible(policy), *_missing(policy)])
        return
    wrong = False
    for path in file:
        try:
            policy = parse([_named(path)])
        except PolicyError as error:
            wrong = True
            click.echo(f"scopekeeper: {safe(str(error))}", err=True)
        else:
            click.echo(safe(f"{_shown(path)}: valid, {_counted(policy)}"))
            warn([*_impossible(policy), *_missing(policy)])
    raise SystemExit(1 if wrong else 0)


def _shown(path: str) -> str:
    return "standard input" if path == _STDIN else path


def _named(path: str) -> tuple[str, str]:
    """Return a file's name and its text; raises PolicyError."""
    if path == _STDIN:
        content = sys.stdin.buffer.read(regular_files.SMALL + 1)
        if len(content) > regular_files.SMALL:
            raise PolicyError(f"{_shown(path)}: it has more than {regular_files.SMALL} bytes")
    else:
        try:
            content = regular_files.read(path, follow=True)
        except OSError as error:
            raise PolicyError(f"{path}: {error.strerror}") from None
    return _shown(path), text_of(_shown(path), content)


def _settings(policy: Policy) -> Iterator[tuple[str, Setting]]:
    tables = (*policy.lanes.values(), *policy.kinds.values(), *policy.servers.values())
    return (each for table in tables for each in table.items())


def _counted(policy: Policy) -> str:
    rules = counted(len(list(_settings(policy))), "rule")
    number = len(policy.commands)
    return f"{rules}, {counted(number, 'command')}" if number else rules


def _missing(policy: Policy) -> Iterator[str]:
    """Yield a sentence for each command whose program is missing."""
    for rule, problem in missing(policy):
        yield f"{rule.source}: {problem}"


def _impossible(policy: Policy) -> list[str]:
    """Return a sentence for each rule that would let nothing start on this machine."""
    total = memory.total_bytes()
    if total is None:
        return []
    return [
        f"{setting.source}: min_available is {setting.value}, but this machine has "
        f"{quantities.show_bytes(total)} of memory: no launch would start"
        for key, setting in _settings(policy)
        if key == "min_available" and quantities.size(key, str(setting.value)) >= total
    ]
