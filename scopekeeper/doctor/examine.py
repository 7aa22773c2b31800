"""Runs all checks in order, and sums them up in one verdict."""

from collections.abc import Callable, Iterable

from scopekeeper.doctor import client_hooks, machine, mcp_servers, parts, scratch
from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.doctor.remedies import detail, remedy
from scopekeeper.doctor.trial import trial
from scopekeeper.scope import choose_placement, placement_options
from scopekeeper.scope.placement import Caller


def examine() -> list[Finding]:
    """Run all checks, except those that depend on a failed one."""
    findings = _found("cgroup2", machine.hierarchy, Status.FAIL)
    findings += _found("kernel", machine.kernel)
    if findings[0].status is Status.FAIL:
        return findings
    findings += _found("moves", machine.moves)
    findings += _found("proc", machine.procfs, Status.FAIL)
    findings += _found("container", machine.container)
    try:
        caller = Caller()
        findings += _found("systemd", lambda: machine.systemd(caller))
        findings += _found("cgroupns", lambda: machine.cgroup_namespace(caller))
        wanted = placement_options.wanted()
        where = choose_placement.find(caller, wanted)
    except Exception as error:  # noqa: BLE001  a check that raises is a finding
        fix = remedy(error) or machine.remedy()
        found = Finding("placement", Status.FAIL, detail(error), fix)
        return [*findings, found]
    by = "" if wanted == "auto" else f" (SCOPEKEEPER_PLACEMENT={wanted})"
    findings.append(Finding("placement", Status.OK, f"new scopes go to {where}{by}"))
    findings += _found("controllers", lambda: parts.controllers(where, caller))
    findings += _found("slice", lambda: parts.slice_(where))
    findings += _found("launcher", parts.launcher)
    findings += _found("shell", parts.shell)
    findings += _found("policy", parts.policy)
    findings += _found("commands", parts.commands)
    findings += _found("clients", parts.clients)
    findings += _found("hosts", parts.hosts)
    findings += _found("state", parts.state_folder)
    findings += _found("servers", mcp_servers.launchers)
    findings += _found("hooks", client_hooks.launchers)
    findings += _found("servers", mcp_servers.in_settings)
    findings += _found("keeper", lambda: parts.keeper(where))
    findings += _found("gateway", lambda: parts.gateways(caller))
    findings += _found("escaped", lambda: parts.escapes(caller))
    findings += _found("scratch", lambda: scratch.sizes(caller))
    findings += _found("exec", lambda: parts.runs(where))
    findings += _found("trial", lambda: trial(caller.mount), Status.FAIL)
    return findings


def _found(
    check: str, look: Callable[[], Finding | Iterable[Finding]], broken: Status = Status.LIMIT
) -> list[Finding]:
    """Return the findings of a check; a check that raises is a finding of status broken."""
    try:
        found = look()
        return [found] if isinstance(found, Finding) else list(found)
    except Exception as error:  # noqa: BLE001  the other checks still run
        return [Finding(check, broken, f"cannot be checked: {detail(error)}", remedy(error))]


def verdict(findings: list[Finding]) -> int:
    """Return 0 if scopekeeper is usable, 1 if usable with limits, 2 if not usable."""
    statuses = {finding.status for finding in findings}
    return 2 if Status.FAIL in statuses else 1 if Status.LIMIT in statuses else 0
