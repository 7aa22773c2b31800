"""Checks what this machine has of what scopekeeper needs; a finding has what mends it."""

from scopekeeper.doctor import machine, parts
from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.doctor.trial import trial
from scopekeeper.errors import ScopekeeperError
from scopekeeper.launch import place

__all__ = ["Finding", "Status", "examine", "verdict"]


def examine() -> list[Finding]:
    """Run all checks; those that build on a failed one are left out."""
    findings = [machine.hierarchy(), machine.kernel()]
    if findings[0].status is Status.FAIL:
        return findings
    findings += machine.container()
    caller = place.Caller()
    findings += machine.systemd(caller)
    try:
        where = place.find(caller)
    except ScopekeeperError as error:
        findings.append(
            Finding("placement", Status.FAIL, error.message, machine.remedy(caller.uid))
        )
        return findings
    findings.append(Finding("placement", Status.OK, f"new scopes go to {where}"))
    findings += parts.controllers(where)
    findings += parts.slice_(where)
    findings.append(parts.launcher())
    findings += parts.shell()
    findings.append(parts.policy())
    findings.append(parts.keeper(where))
    findings += parts.runs(where)
    findings.append(trial(caller.mount))
    return findings


def verdict(findings: list[Finding]) -> int:
    """Return 0 where scopekeeper is usable, 1 with limits, 2 where it is not."""
    statuses = {finding.status for finding in findings}
    return 2 if Status.FAIL in statuses else 1 if Status.LIMIT in statuses else 0
