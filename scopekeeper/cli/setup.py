"""``scopekeeper setup``."""

import os
import sys
from collections.abc import Sequence

import click

from scopekeeper.cli.documents import texts
from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import safe, table, terminal_width, warn, with_no_trunc
from scopekeeper.cli.table import Column, Fit, wrap
from scopekeeper.doctor.examine import examine, verdict
from scopekeeper.doctor.finding import Status
from scopekeeper.errors import InterruptedWorkError, UsageError
from scopekeeper.mcp_configs import known_clients
from scopekeeper.scope import choose_placement
from scopekeeper.scope.placement import Caller
from scopekeeper.setup import carry_out, record
from scopekeeper.setup.shell_commands import ShellCommands
from scopekeeper.setup.step import Found, Machine, Need, Outcome
from scopekeeper.setup.steps import STEPS

_COLUMNS = (
    Column("WHAT", Fit.MIDDLE, 12),
    Column("WILL", Fit.WRAP, 14),
    Column("WHERE", Fit.MIDDLE, 20),
)
NOTHING_KNOWN = """\
None of the MCP clients and gateways that scopekeeper knows was found. By hand:
  a file with servers, of another client:
      scopekeeper wrap FILE
  a gateway that is a service, in its unit:
      ExecStart={program} run -n gateway -- COMMAND
  a gateway in Python:
      with scopekeeper.Cohort(session=...) as cohort:"""
_NOT_DONE = 1


@click.command(
    "setup",
    epilog=examples(
        "scopekeeper setup --dry-run",
        "scopekeeper setup --yes",
        "scopekeeper setup --shell-commands",
        "scopekeeper setup --undo",
    ),
)
@click.option("--yes", "-y", "agreed", is_flag=True, help="Do not ask.")
@click.option("--undo", is_flag=True, help="Take back what setup did here, and nothing else.")
@click.option(
    "--shell-commands",
    is_flag=True,
    help="Also have Claude Code start its shell commands through scopekeeper-prefix: one line in "
    "its settings.json.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@with_no_trunc
def command(agreed: bool, undo: bool, shell_commands: bool, dry_run: bool, no_trunc: bool) -> None:
    """Find the MCP clients and gateways of this machine, and contain them.

    Prints what it would do and why, asks once, does it and checks it. It is `wrap`, `wrap --hooks`,
    `install` and `openclaw install` in one: for root with the system's manager, for others with
    their own. Each change is recorded before it is made: --undo takes back exactly these, to the
    byte, except for what was edited since. What needs a hand, such as a file that may not be
    written, is listed with its command before it asks. Exit status: 0 done, or nothing to do; 1
    something failed or was declined: what was done is named, and stays recorded.
    """
    if undo and shell_commands:
        raise UsageError("--undo takes back all that setup did", "leave out --shell-commands")
    machine = Machine(os.environ, texts, shell_commands)
    if undo:
        raise SystemExit(_undo(machine, dry_run=dry_run))
    record.check()
    warn(known_clients.problems())
    choose_placement.find(Caller())  # where no scope can be made, wrapped servers would not start
    found = carry_out.find(STEPS, machine)
    _print(machine, found, no_trunc=no_trunc)
    if dry_run or not any(each.need is Need.CHANGE for each in found):
        return
    if not agreed and not _agrees():
        raise SystemExit(_NOT_DONE)
    raise SystemExit(_do(machine, found))


def _print(machine: Machine, found: Sequence[Found], *, no_trunc: bool) -> None:
    """Print what would be done, and what needs a hand; or that there is nothing to do."""
    changes = [each for each in found if each.need is Need.CHANGE]
    hands = [each for each in found if each.need in (Need.HAND, Need.ADVICE)]
    if changes:
        rows = [(_name(each), each.will, each.where) for each in changes]
        table(_COLUMNS, rows, whole=no_trunc)
        click.echo()
        for why in dict.fromkeys(each.why for each in changes):
            _lines(why)
    others = {_name(each) for each in found if each.need in (Need.CHANGE, Need.HAND)}
    contained = dict.fromkeys(
        _name(each) for each in found if each.need is Need.NOTHING and _name(each) not in others
    )
    if contained:
        _lines(f"Contained already: {', '.join(contained)}.")
    if not any(each.step in ("servers", "openclaw", "gateways") for each in found):
        if changes:
            click.echo()
        click.echo(NOTHING_KNOWN.format(program=safe(_program(machine))))
    if hands:
        click.echo("\nBy hand, since setup does not do it:" if changes or contained
                   else "By hand, since setup does not do it:")  # fmt: skip
    for each in hands:
        _lines(f"{_name(each)}: {each.detail}" + (f"; {each.why}" if each.why else ""), "  ")
        if each.command:
            click.echo(safe(f"      {each.command}"))
    if problem := machine.without_systemd():
        _lines(f"{problem}: services are not looked at, and nothing starts a keeper by itself.")
    if not changes:
        click.echo("Nothing to do.")


def _name(found: Found) -> str:
    """Return its name; a client's settings have a row of their own for its shell commands."""
    is_shell = found.step == ShellCommands.name
    return f"{found.what} shell commands" if is_shell else found.what


def _program(machine: Machine) -> str:
    try:
        return machine.launcher()[1]
    except UsageError:
        return "scopekeeper"


def _lines(text: str, first: str = "") -> None:
    """Print a text, in lines of the terminal."""
    width = terminal_width()
    for line in wrap(safe(text), width, first, "    ") if width else [first + safe(text)]:
        click.echo(line)


def _agrees() -> bool:
    if not sys.stdin.isatty():
        click.echo("scopekeeper: nothing was changed: there is no terminal to ask at; "
                   "to do it: scopekeeper setup --yes", err=True)  # fmt: skip
        return False
    if click.confirm("Do this?"):
        return True
    click.echo("Nothing was changed.")
    return False


def _do(machine: Machine, found: Sequence[Found]) -> int:
    """Make the changes, check the machine, and print what to restart; return the exit status."""
    restart: list[str] = []
    kept = False

    def report(outcome: Outcome) -> None:
        nonlocal kept
        kept = kept or outcome.has_backup
        _report(outcome, restart)

    click.echo()
    try:
        with record.changing() as known:
            failures = carry_out.do(STEPS, machine, found, known, report)
        if kept:
            click.echo("A rewritten file is beside it as it was: FILE.before-scopekeeper.")
        _failed(failures, "not done")
        status = _check()
    except KeyboardInterrupt:
        raise InterruptedWorkError(
            "what was done is recorded; to take it back: scopekeeper setup --undo"
        ) from None
    _restarts(restart, "contained")
    click.echo("To see it: scopekeeper status. To take it back: scopekeeper setup --undo.")
    return _NOT_DONE if failures else status


def _check() -> int:
    """Run the checks of ``doctor``, and print those that ask for something; return 1 for a fail."""
    findings = examine()
    for each in findings:
        if each.status in (Status.LIMIT, Status.FAIL):
            click.echo(f"{each.status.value:5}  {each.check}: {safe(each.detail)}")
            if each.fix:
                click.echo(f"       → {safe(each.fix)}")
    words = ("works here", "works here, with these limits", "does not work here")
    click.echo(f"Checked: scopekeeper {words[verdict(findings)]}.")
    return _NOT_DONE if verdict(findings) == 2 else 0


def _undo(machine: Machine, *, dry_run: bool) -> int:
    """Take back what is recorded; return the exit status."""
    if not record.load().entries:
        click.echo("Nothing to undo: setup has changed nothing here.")
        return 0
    restart: list[str] = []

    left: set[str] = set()

    def report(outcome: Outcome) -> None:
        outcome.left = [each for each in outcome.left if each not in left]
        left.update(outcome.left)
        _report(outcome, restart)

    if dry_run:
        click.echo("Would be undone:")
        failures = carry_out.undo(STEPS, machine, record.load(), report, dry_run=True)
    else:
        try:
            with record.changing() as known:
                failures = carry_out.undo(STEPS, machine, known, report, dry_run=False)
            if known.made and not known.entries and known.folder.exists():
                click.echo(safe(f"left: {known.folder}, with the history of what ended"))
        except KeyboardInterrupt:
            raise InterruptedWorkError(
                "the rest stays recorded; to go on: scopekeeper setup --undo"
            ) from None
    _failed(failures, "not undone")
    if not dry_run:
        _restarts(restart, "as before")
    return _NOT_DONE if failures else 0


def _report(outcome: Outcome, restart: list[str]) -> None:
    for line in outcome.lines:
        click.echo(safe(line))
    for line in outcome.left:
        click.echo(safe(f"left: {line}"))
    warn(outcome.warnings)
    restart += [each for each in outcome.restart if each not in restart]


def _failed(failures: Sequence[str], word: str) -> None:
    for text in failures:
        click.echo(f"scopekeeper: {word}: {safe(text)}", err=True)


def _restarts(restart: Sequence[str], how: str) -> None:
    if restart:
        click.echo(f"Restart what runs, so that it starts its servers {how}:")
    for each in restart:
        click.echo(safe(f"  {each}"))
