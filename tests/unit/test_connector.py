"""The proc connector's messages, read the way that another library reads them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.kernel.proc_events import MOST, exits, filter_for, subscription

PIDS = st.integers(1, 4194304)


def event(what, pid, tgid, status, when=1):
    body = struct.pack("=IIIIHH", 1, 1, 0, 0, 40, 0)
    body += struct.pack("=IIQIIIIII", what, 0, when, pid, tgid, status, 17, 1, 1)
    return struct.pack("=IHHII", 16 + len(body), 3, 0, 0, 0) + body


@given(st.lists(st.tuples(PIDS, st.integers(0, 2**16 - 1)), unique_by=lambda pair: pair[0]))
def test_ends_of_processes_are_read_and_nothing_else(pairs):
    raw = b"".join(event(0x80000000, pid, pid, status) + event(2, pid, pid, 7) for pid, status in pairs)  # fmt: skip  # noqa: E501
    assert exits(raw + event(0x80000000, 5, 4, 9)) == {pid: (status, 1) for pid, status in pairs}


@given(st.binary(max_size=300))
def test_no_bytes_at_all_do_harm(raw):
    exits(raw)


def test_pyroute2_understands_what_is_asked_and_what_is_told():
    cn_proc = pytest.importorskip("pyroute2.netlink.connector.cn_proc")
    asked = cn_proc.proc_event_control(subscription())
    asked.decode()
    assert (asked["idx"], asked["val"], asked["len"], asked["action"]) == (1, 1, 4, 1)
    told = cn_proc.proc_event_exit(event(0x80000000, 12, 12, 768))
    told.decode()
    assert (told["process_pid"], told["process_tgid"], told["exit_code"]) == (12, 12, 768)


def run(program, message):
    """Run a filter as the kernel does; returns how many bytes pass."""
    lines = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = index = 0
    while True:
        code, yes, no, k = lines[at]
        at += 1
        if code == 0x20:
            accumulator = int.from_bytes(message[k : k + 4], "big")
        elif code == 0x07:
            index = accumulator
        elif code == 0x05:
            at += k
        elif code == 0x06:
            return k
        else:
            at += yes if accumulator == (k if code == 0x15 else index) else no


@given(st.sets(PIDS, max_size=700), PIDS)
def test_the_filter_passes_whom_it_names(pids, other):
    program = filter_for(pids)
    for pid in pids:
        assert run(program, event(0x80000000, pid, pid, 0))
        assert not run(program, event(1, pid, pid, 0))
    assert bool(run(program, event(0x80000000, other, other, 0))) == (other in pids)


@given(PIDS, PIDS)
def test_the_wide_filter_passes_first_threads(pid, tgid):
    assert bool(run(filter_for(None), event(0x80000000, pid, tgid, 0))) == (pid == tgid)


def test_the_longest_filter_is_one_that_the_kernel_takes():
    assert len(filter_for(range(1, 10000))) // 8 <= 4096
    assert run(filter_for(range(1, 10000)), event(0x80000000, MOST, MOST, 0))
