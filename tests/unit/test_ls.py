"""What `ls` and `history` show at 80 columns, and whose a scope is."""

import os
from pathlib import Path

import pytest

from scopekeeper.cli import history, ls_rows
from scopekeeper.cli.reconcile import columns
from scopekeeper.cli.table import lay_out, width_of
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope

UUID = "7f3a9c21-1b2c-4d5e-8f90-123456789abc"
ROWS = [
    ("agent:main:telegram:direct:123456789", "main", "-", "mcp", "running", "9", "13", "412M",
     "6.2s", "4m8s", "-", "openclaw-gateway.service"),
    (f"agent:main:cron:{UUID}", "cron", UUID, "mcp", "kept", "3", "5", "131M", "2.1s", "2h3m",
     "in 23h", "claude[25712]"),
    ("agent:spark:main", "nested:agent:spark", "4f1d09c7", "pty", "orphan", "3", "5", "131M",
     "2.1s", "2h3m", "now", "pid 4211"),
]  # fmt: skip


def usual(columns):
    """Return the columns that are shown if a call names none."""
    return [column for column in columns if not column.extra]


def test_at_80_columns_every_line_fits_and_what_matters_is_whole():
    drawn = lay_out(usual(ls_rows.COLUMNS), ROWS, 80)
    lines = [drawn.header, *(line for (line,) in drawn.rows)]
    assert max(map(width_of, lines)) <= 80
    for word in ("SESSION", "RUN", "STATE", "MEMORY", "AGE", "ENDS"):
        assert word in drawn.header.split()
    for line, words in zip(lines[1:], (
        ("agent:main:…:123456789", "running", "412M", "4m8s"),
        (":7f3a9c21", "7f3a9c21", "kept", "131M", "2h3m", "in 23h"),
        ("agent:spark:main", "4f1d09c7", "orphan", "131M", "2h3m", "now"),
    ), strict=True):  # fmt: skip
        assert all(word in line for word in words), line
    assert {"CPU", "KIND", "PROCS"} <= set(drawn.dropped)


def test_history_at_80_columns_has_reason_and_status_whole():
    rows = [
        ("14:30:05", "agent:main:telegram:direct:123456789", "main", "-", "filesystem",
         "stopped by request", "SIGTERM", "2h3m", "131M", "2.1s", "asked for by bash (pid 977)"),
        ("14:30:09", "agent:main:telegram:direct:987654321", "main", "-", "git",
         "exited", "3", "2h3m", "131M", "2.1s", "exit status 3"),
    ]  # fmt: skip
    drawn = lay_out(usual(history.COLUMNS), rows, 80)
    lines = [drawn.header, *(line for row in drawn.rows for line in row)]
    assert max(map(width_of, lines)) <= 80
    assert "agent:main:…:123456789" in lines[1]
    assert "stopped by request  SIGTERM" in lines[1]
    assert {"RUN"} & {*drawn.header.split(), *drawn.dropped} == set(), "empty, so it is no loss"


def test_the_evidence_of_a_reconcile_is_whole_at_80_columns():
    evidence = "process 4211 has ended; ends in 23h59m unless it is adopted"
    row = ("agent:main:telegram:direct:123456789", "main", "4f1d09c7", "filesystem", "orphan",
           "keep", evidence)  # fmt: skip
    (lines,) = lay_out(usual(columns(dry_run=True)), [row], 80).rows
    assert max(map(width_of, lines)) <= 80
    assert evidence in " ".join(" ".join(line[40:].split()) for line in lines)


def scope_of(*states):
    members = tuple(
        Member("x", f"{at:08x}", f"/x/{at}", f"/x/{at}", pids=(10,), owner_state=state)
        for at, state in enumerate(states)
    )
    return Scope("scopekeeper-s-main.scope", "/x", "/x", 0, "s", "main", members=members)


@pytest.mark.parametrize(
    ("owner", "liveness", "shown"),
    [
        (Owner(pid=257, name="claude"), Liveness.ALIVE, "claude[257]"),
        (Owner(pid=257, name="claude"), Liveness.GONE, "claude[257]"),
        (Owner(pid=257), Liveness.GONE, "pid 257"),
        (Owner(unit="gateway.service", name="x"), Liveness.ALIVE, "gateway.service"),
        (Owner(), Liveness.UNKNOWN, "-"),
    ],
)
def test_an_owner_is_shown_by_its_program(owner, liveness, shown):
    assert ls_rows.owners(scope_of(OwnerState(owner, liveness, ""))) == shown


def test_an_owner_that_an_earlier_version_recorded_is_named_while_it_lives():
    own = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    state = OwnerState(Owner(pid=os.getpid(), start_time=1), Liveness.ALIVE, "")
    assert ls_rows.owners(scope_of(state)) == f"{own}[{os.getpid()}]"


def test_one_owner_that_called_itself_two_names_is_one():
    states = [OwnerState(Owner(pid=257, name=n), Liveness.ALIVE, "") for n in ("node", "claude")]
    assert "," not in ls_rows.owners(scope_of(*states))
