"""Checks what this machine has of what scopekeeper needs; a finding has what mends it."""

from collections.abc import Callable, Iterable

from scopekeeper.doctor import machine, parts
from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.doctor.remedies import detail, remedy
from scopekeeper.doctor.trial import trial
from scopekeeper.scope import choose_placement
from scopekeeper.scope.placement import Caller


def examine() -> list[Finding]:
    """Run all checks; those that build on a failed one are left out."""
    findings = _found("cgroup2", machine.hierarchy, Status.FAIL)
    findings += _found("kernel", machine.kernel)
    if findings[0].status is Status.FAIL:
        return findings
    findings += _found("proc", machine.procfs, Status.FAIL)
    findings += _found("container", machine.container)
    try:
        caller = Caller()
        findings += _found("systemd", lambda: machine.systemd(caller))
        where = choose_placement.find(caller)
    except Exception as error:  # noqa: BLE001  a check that breaks is a finding
        fix = remedy(error) or machine.remedy()
        found = Finding("placement", Status.FAIL, detail(error), fix)
        return [*findings, found]
    findings.append(Finding("placement", Status.OK, f"new scopes go to {where}"))
    findings += _found("controllers", lambda: parts.controllers(where))
    findings += _found("slice", lambda: parts.slice_(where))
    findings += _found("launcher", parts.launcher)
    findings += _found("shell", parts.shell)
    findings += _found("policy", parts.policy)
    findings += _found("keeper", lambda: parts.keeper(where))
    findings += _found("exec", lambda: parts.runs(where))
    findings += _found("trial", lambda: trial(caller.mount), Status.FAIL)
    return findings


def _found(
    check: str, look: Callable[[], Finding | Iterable[Finding]], broken: Status = Status.LIMIT
) -> list[Finding]:
    """Return what a check finds; one that breaks is a finding too, of status broken."""
    try:
        found = look()
        return [found] if isinstance(found, Finding) else list(found)
    except Exception as error:  # noqa: BLE001  the others are made all the same
        return [Finding(check, broken, f"cannot be checked: {detail(error)}", remedy(error))]


def verdict(findings: list[Finding]) -> int:
    """Return 0 where scopekeeper is usable, 1 with limits, 2 where it is not."""
    statuses = {finding.status for finding in findings}
    return 2 if Status.FAIL in statuses else 1 if Status.LIMIT in statuses else 0
