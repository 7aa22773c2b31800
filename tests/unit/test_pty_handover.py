"""What the descriptor store gives back is told apart by run, and what is used stays there."""

import os
import pty
import subprocess

import pytest

from scopekeeper.keeper.exec import handover
from scopekeeper.systemd.fdstore import DescriptorStore


@pytest.fixture
def store():
    return DescriptorStore(100)


def terminal():
    """Return a terminal's master, its other end, and a staging pipe's two ends."""
    master, slave = pty.openpty()
    return [master, *os.pipe()], slave


def test_descriptors_are_sorted_by_run_and_counted(store):
    (first, slave), pipe = terminal(), os.pipe()
    child = subprocess.Popen(["sleep", "60"])
    pidfd = os.pidfd_open(child.pid)
    child.kill()
    child.wait()
    given = {"aaaaaaaa": first, "aaaaaaaa-leader": [pidfd], "bbbbbbbb": [pipe[0]]}
    found = handover.sort(given | {"bbbbbbbb-in": [pipe[1]]}, store)
    assert found.keys() == {"aaaaaaaa", "bbbbbbbb"}
    assert (found["aaaaaaaa"].descriptors, found["aaaaaaaa"].leader) == (first, pidfd)
    assert (found["bbbbbbbb"].descriptors, found["bbbbbbbb"].leader) == (list(pipe), -1)
    assert store.room == 100 - 6
    for each in found.values():
        each.close()
        each.close()  # once is enough, twice does no harm
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first[0])
    os.close(slave)


def test_a_terminal_is_used_while_somebody_has_it_open(store):
    descriptors, slave = terminal()
    stored = handover.sort({"aaaaaaaa": descriptors}, store)["aaaaaaaa"]
    assert stored.is_used
    os.close(slave)
    assert not stored.is_used
    stored.close()
    assert not stored.is_used


def test_pipes_are_used_while_one_of_them_has_another_end(store):
    output, input_ = os.pipe(), os.pipe()
    given = {"aaaaaaaa": [output[0]], "aaaaaaaa-in": [input_[1]]}
    stored = handover.sort(given, store)["aaaaaaaa"]
    os.close(output[1])
    assert stored.is_used
    os.close(input_[0])
    assert not stored.is_used
    stored.close()
