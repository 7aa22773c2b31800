"""What ``install --gateway`` says of a gateway is what systemd and cgroupfs show of it."""

import pytest

from scopekeeper.install.gateway_drop_in import leaves_behind
from scopekeeper.install.gateway_report import Gateway, missing, outcome

PROGRAM = "/opt/scope keeper/bin/scopekeeper"
PLAIN = ("/usr/bin/node", "gateway.js")
THROUGH = ("/opt/bin/scopekeeper", "run", "-n", "gateway", "--", "/usr/bin/node")


@pytest.mark.parametrize(("commands", "through"), [
    ((), False),
    ((PLAIN,), False),
    ((THROUGH,), True),
    ((PLAIN, THROUGH), False),
    ((("/bin/sh", "-c", "scopekeeper run -- node"),), False),
    ((("/opt/bin/scopekeeper", "ls"),), False),
    ((("/opt/bin/scopekeeper",),), False),
])  # fmt: skip
def test_only_a_gateway_that_systemd_starts_through_us_is_in_a_scope(
    commands: tuple[tuple[str, ...], ...], through: bool
) -> None:
    gateway = Gateway("g.service", commands)
    assert gateway.goes_through_us is through
    assert ("starts in a scope" in outcome(gateway, "systemctl restart g.service")) is through
    assert (missing(gateway, PROGRAM, shell=False) == "") is through


def test_what_is_missing_names_what_runs_now_and_the_line_that_mends_it() -> None:
    assert missing(Gateway("g.service", (PLAIN,), True, 2, 0), PROGRAM, shell=False) == ""
    text = missing(Gateway("g.service", (PLAIN,), True, 1, 12), PROGRAM, shell=False)
    assert "`scopekeeper run -s SESSION -n NAME -- COMMAND` is in a scope" in text
    assert "Now: 1 member in scopes, 12 other processes in none" in text
    assert 'ExecStart="/opt/scope keeper/bin/scopekeeper" run -n gateway -- COMMAND' in text
    text = missing(Gateway("g.service", (PLAIN,)), PROGRAM, shell=True)
    assert "or through $SHELL is in a scope" in text
    assert "Now" not in text


def test_only_a_mode_that_leaves_processes_is_warned_of() -> None:
    assert leaves_behind("g.service", "control-group", "/etc/systemd/system", "") == []
    left, inside = leaves_behind("g.service", "process", "/etc/systemd/system", "")
    assert "keeps running after it stops" in left
    assert left.endswith("20-kill-mode.conf && systemctl daemon-reload")
    assert inside.endswith("restarts it with: systemctl restart g.service")
