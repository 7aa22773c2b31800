"""``scopekeeper doctor``."""

import os

import click

from scopekeeper.cli import colour
from scopekeeper.cli.colour import Paint, with_color
from scopekeeper.cli.examples import examples
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.show import answer, safe, terminal_width
from scopekeeper.cli.table import wrap
from scopekeeper.doctor.examine import examine, verdict
from scopekeeper.doctor.finding import Finding, Status

_INDENT = 20
_WORDS = ("usable", "usable, with limits", "not usable")
PAINTS = {Status.OK: Paint.GREEN, Status.NOTE: Paint.CYAN, Status.LIMIT: Paint.YELLOW,
           Status.FAIL: Paint.RED}  # fmt: skip


@click.command("doctor", epilog=examples("scopekeeper doctor", "scopekeeper doctor --json"))
@with_hosts("doctor")
@click.option("--placement", metavar="auto|user|system|cgroup:PATH", help="Check launches with "
              "this placement. Default: $SCOPEKEEPER_PLACEMENT, else auto.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_color
def command(placement: str | None, as_json: bool, color: str) -> None:
    """Check that scopekeeper works on this machine, and print how to fix what does not.

    With -H, only what is not ok, and the verdict of each host; a host that does not answer has 2.

    Exit status: 0 usable; 1 usable with limits; 2 not usable.
    """
    if placement is not None:
        os.environ["SCOPEKEEPER_PLACEMENT"] = placement  # the trial's launch reads it too
    findings = examine()
    status = verdict(findings)
    if as_json:
        answer(
            {
                "verdict": _WORDS[status],
                "checks": [
                    {
                        "check": finding.check,
                        "status": finding.status.value,
                        "detail": finding.detail,
                        "fix": finding.fix or None,
                    }
                    for finding in findings
                ],
            }
        )
    else:
        paints = PAINTS if colour.is_wanted(color) else dict.fromkeys(PAINTS)
        for finding in findings:
            for line in _lines(finding, paints[finding.status]):
                colour.echo(line)
            if finding.fix and finding.status is not Status.OK:
                click.echo(f"{'':{_INDENT}}→ {safe(finding.fix)}")
        click.echo(f"scopekeeper is {_WORDS[status]} here")
    raise SystemExit(status)


def _lines(finding: Finding, paint: Paint | None) -> list[str]:
    """Return a finding in lines that fit the terminal."""
    word, rest = f"{finding.status.value:5}", f"  {finding.check:11}  "
    width, text = terminal_width(), safe(finding.detail)
    first, *more = wrap(text, width, word + rest, " " * _INDENT) if width else [word + rest + text]
    return [colour.painted(word, paint) + first[len(word) :], *more]
