"""Trees of lists: every node once, below its parent, and never wider than the terminal."""

import os
import re
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.cli.table import Column, Fit, lay_out, width_of
from scopekeeper.cli.tree import drawn, families
from scopekeeper.kernel import proc
from scopekeeper.kernel.processes import Process, look
from tests.machine import eventually


def process(pid, parent, command="x"):
    return Process(pid, parent, "sleeping", 1.0, 0.0, 0, command)


FAMILIES = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), max_size=30,
                    unique_by=lambda each: each[0])  # fmt: skip


def is_whole(pairs):
    """Return whether every process has an ancestor that is not among them, as in a real system."""
    parents = dict(pairs)
    for start in parents:
        seen, at = set(), start
        while at in parents and at not in seen:
            seen.add(at)
            at = parents[at]
        if at in seen:
            return False
    return True


@given(FAMILIES.filter(is_whole))
def test_each_process_is_there_once_right_below_its_own(pairs):
    roots, children = families([process(*each) for each in pairs])
    found = list(drawn(roots, children))
    assert sorted(each.pid for _, each in found) == sorted(pid for pid, _ in pairs)
    last_at = {}
    for before, each in found:
        depth = len(before) // 3
        assert re.fullmatch("([│ ]  )*([├└]─ )?", before)
        if depth:
            assert last_at[depth - 1] == each.parent
        else:
            assert each.parent not in dict(pairs)
        last_at[depth] = each.pid


def test_a_chain_of_thousands_is_drawn_and_does_not_grow_to_the_right():
    chain = [process(pid, pid - 1) for pid in range(2, 5000)]
    lines = [before for before, _ in drawn(*families(chain))]
    assert len(lines) == len(chain)
    assert max(map(len, lines)) < 80


@given(
    st.lists(st.tuples(st.text("│├└─ ", max_size=30), st.text("ab:-日\x1b\n…", max_size=60)),
             min_size=1, max_size=6),
    st.integers(1, 60),
)  # fmt: skip
def test_a_tree_is_cut_behind_its_lines(names, width):
    rows = [(before + name, "12") for before, name in names]
    table = lay_out((Column("NAME", Fit.TREE, 8), Column("PROCS", need=1)), rows, width)
    for (line,) in table.rows:
        assert width_of(line) <= width


def test_a_tree_keeps_its_lines_and_both_ends_of_a_name():
    rows = [("│  └─ scopekeeper-agent:main:telegram:direct:123456789-main.scope",)]
    ((line,),) = lay_out((Column("NAME", Fit.TREE),), rows, 40).rows
    assert line.startswith("│  └─ scopekeeper-")
    assert line.endswith("main.scope")
    assert width_of(line) <= 40


def test_a_tree_keeps_the_number_of_a_process():
    rows = [("            └─ 4194303 sleep infinity",)]
    ((line,),) = lay_out((Column("NAME", Fit.TREE, 26),), rows, 26).rows
    assert line == "            └─ 4194303 sl…"


def test_a_look_finds_what_is_in_the_cgroup_alone():
    with subprocess.Popen(["sh", "-c", "read x; :"], stdin=subprocess.PIPE) as child:
        own = proc.cgroup_of()
        command = Path(f"/proc/{child.pid}/cmdline")
        eventually(command.read_bytes)  # empty for a moment after execve(2)
        found = {each.pid: each for each in look((os.getpid(), child.pid, 1 << 22), own)}
        assert found.keys() == {os.getpid(), child.pid}
        assert found[child.pid].parent == os.getpid()
        assert found[child.pid].command == "sh -c read x; :"
        assert found[os.getpid()].resident > 1 << 20
        assert found[os.getpid()].cpu > 0
        assert found[os.getpid()].age >= found[child.pid].age >= 0
        assert look((child.pid,), f"{own}/none") == []
        child.communicate(b"\n")
    assert look((child.pid,), own) == []
