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
    assert (missing(gateway, PROGRAM, "") == "") is through


def test_what_is_missing_counts_what_runs_now_and_has_the_command_that_mends_it() -> None:
    assert missing(Gateway("g.service", (PLAIN,), True, 2, 0), PROGRAM, "") == ""
    text = missing(Gateway("g.service", (PLAIN,), True, 1, 12), PROGRAM, " --user")
    mend = "systemctl --user edit --full g.service, with Delegate=yes and ExecStart="
    line = f'{mend}"/opt/scope keeper/bin/scopekeeper" run -n gateway -- COMMAND'
    assert text == f"g.service: 12 processes are in no scope; to contain it all: {line}"
    assert ": 1 process is in" in missing(Gateway("g.service", (), True, 0, 1), PROGRAM, "")
    for quiet in (Gateway("g.service", (PLAIN,)), Gateway("g.service", (PLAIN,), True)):
        assert ": what it starts without scopekeeper is in no scope; " in missing(
            quiet, PROGRAM, ""
        )


def test_the_outcome_is_one_line_with_the_command_for_it() -> None:
    text = outcome("g.service", " --user")
    assert text.startswith("g.service: from its next start on, its scopes end with it (not ")
    assert text.endswith(": systemctl --user restart g.service")


def test_only_a_mode_that_leaves_processes_is_warned_of() -> None:
    assert leaves_behind("g.service", "control-group", "/etc/systemd/system", "") == []
    left, inside = leaves_behind("g.service", "process", "/etc/systemd/system", "")
    assert left.startswith("g.service: KillMode=process leaves what is in no scope")
    assert left.endswith("20-kill-mode.conf && systemctl daemon-reload")
    assert inside.endswith(": systemctl restart g.service")
