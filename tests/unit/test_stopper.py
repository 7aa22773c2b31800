"""Who asked for a stop: a process, with its user and terminal, since it may be gone by then."""

import os
import pwd
import subprocess
import sys

import pytest

from scopekeeper.kernel import terminals
from scopekeeper.lifecycle import observe, stop_mark
from scopekeeper.scope import record_parser, records
from scopekeeper.scope.reason import Cause, Reason, Stopper
from scopekeeper.users import name_of

DEVICES = {(136, 0): "pts/0", (137, 1): "pts/257", (4, 1): "tty1", (4, 64): "ttyS0", (204, 64): ""}


@pytest.mark.parametrize(("device", "name"), DEVICES.items())
def test_a_terminal_is_named_as_in_dev(device: tuple[int, int], name: str) -> None:
    assert terminals.name_of(os.makedev(*device)) == name


def test_a_process_is_described_with_its_user_and_terminal() -> None:
    ours, theirs = os.openpty()
    name = os.ttyname(theirs).removeprefix("/dev/")
    become = "import fcntl, os, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    script = f"{become}print('x', flush=True)\nos.read(0, 1)"
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=theirs, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout.readline() == b"x\n"
            told = str(observe.stopper(child.pid))
        finally:
            child.kill()
    os.close(ours)
    os.close(theirs)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert told.endswith(f" (pid {child.pid}, user {user}, {name})")


def test_a_user_without_a_name_is_a_number_and_no_terminal_is_no_word() -> None:
    assert name_of(4_000_000_000) == ""
    assert str(Stopper(7, 4_000_000_000, "sh")) == "sh (pid 7, uid 4000000000)"


def test_the_mark_of_a_stop_keeps_both_for_the_keeper() -> None:
    """It may see the end first, when the process that asked has ended."""
    asked = Cause(Reason.STOPPED, "x", Stopper(7, 1000, "timeout", "op", "pts/3"))
    raw = records.dumps(stop_mark.fields(asked))
    found = stop_mark.stated(record_parser.stop_mark(raw))
    assert found.evidence == "asked for by timeout (pid 7, user op, pts/3): x"
    older = {key: text for key, text in stop_mark.fields(asked).items()
             if key not in ("ASKER_USER", "ASKER_TTY")}  # fmt: skip
    found = stop_mark.stated(record_parser.stop_mark(records.dumps(older)))
    assert found.evidence == "asked for by timeout (pid 7, uid 1000): x"
