"""Being at the terminal of a run, and typing into one, against a stand-in of the keeper."""

import os
import pathlib
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from scopekeeper.exec import protocol, run
from tests.unit.standin import STANDIN_LOG, Keeper, a_run, environment
from tests.unit.terminals import read_until, set_size

_SECONDS = 60.0


class User:
    """Somebody at a terminal who has called ``scopekeeper``."""

    def __init__(self, folder: pathlib.Path, *words: str, cols: int = 90, rows: int = 30) -> None:
        # it leads no session: when the leader ends, which is the user's shell, the kernel throws
        # away what was not read of its terminal yet
        self.fd, self.terminal = os.openpty()
        set_size(self.fd, cols, rows)
        self.before = termios.tcgetattr(self.terminal)
        self._called = subprocess.Popen(
            [sys.executable, "-c", STANDIN_LOG, *words],
            env=environment(folder),
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
        )
        self.pid = self._called.pid
        self.seen = b""

    def sees(self, wanted: bytes) -> bytes:
        self.seen += read_until(self.fd, time.monotonic() + _SECONDS, wanted=wanted)
        end = time.monotonic() + _SECONDS
        while wanted not in self.seen and time.monotonic() < end:
            self.seen += read_until(self.fd, time.monotonic() + 0.2)
        assert wanted in self.seen
        return self.seen

    def types(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def resizes(self, cols: int, rows: int) -> None:
        set_size(self.fd, cols, rows)
        os.kill(self.pid, signal.SIGWINCH)

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.terminal)[3] & (termios.ICANON | termios.ECHO)

    def leaves(self) -> int:
        """Return the exit status, below zero the signal; the terminal is as it was."""
        end = time.monotonic() + _SECONDS
        while self._called.poll() is None:
            assert time.monotonic() < end, self.seen
            self.seen += read_until(self.fd, time.monotonic() + 0.05)
        self.seen += read_until(self.fd, time.monotonic() + 0.5)
        assert termios.tcgetattr(self.terminal) == self.before
        return self._called.returncode

    def close(self) -> None:
        self._called.kill()
        self._called.wait()
        os.close(self.fd)
        os.close(self.terminal)


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("SCOPEKEEPER_DETACH_KEYS", raising=False)
    known = a_run(cols=90, rows=30)
    run.save(known)
    (known.folder / "output").write_bytes(b"")
    return tmp_path


@pytest.fixture
def keeper(folder: pathlib.Path) -> Iterator[Keeper]:
    keeper = Keeper(folder / "keeper", a_run(cols=90, rows=30))
    yield keeper
    keeper.close()


@pytest.fixture
def user(folder: pathlib.Path, keeper: Keeper) -> Iterator[User]:
    user = User(folder, "attach", "1a2b")
    keeper.write(b"READY")
    user.sees(b"READY")
    yield user
    user.close()


def _called(folder: pathlib.Path, *words: str, data: bytes = b"") -> subprocess.Popen[bytes]:
    called = subprocess.Popen(
        [sys.executable, "-c", STANDIN_LOG, *words],
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    called.stdin.write(data)
    return called


def test_what_is_typed_reaches_the_run_and_detaching_leaves_it(user: User, keeper: Keeper) -> None:
    assert user.is_raw
    user.types(b"ls\r\x03\x04\x11\x13\x1a\xc3\xa4")
    keeper.wait_typed(b"ls\r\x03\x04\x11\x13\x1a\xc3\xa4")
    user.types(b"\x1c")
    assert user.leaves() == 0
    assert b"[detached from 1a2b3c4d]\r\n" in user.seen


def test_the_end_of_the_run_is_told_and_its_status_is_ours(user: User, keeper: Keeper) -> None:
    keeper.write(b"bye\r\n")
    keeper.end(exit_status=3)
    assert user.leaves() == 3
    assert b"bye\r\n" in user.seen
    assert user.seen.endswith(b"[m1 ended: exited, status 3]\r\n")


def test_a_signal_that_ended_the_run_is_told_as_a_shell_does(user: User, keeper: Keeper) -> None:
    keeper.end(reason="signalled", exit_status=None, signal=9)
    assert user.leaves() == 137
    assert b"[m1 ended: signalled, SIGKILL]" in user.seen


def test_an_end_that_nobody_knows_is_125(user: User, keeper: Keeper) -> None:
    keeper.say(ended=None)
    assert user.leaves() == 125


def test_a_killed_keeper_leaves_the_terminal_right(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("STANDIN_RESTART", "0.5")  # no other keeper will come
    user: User = request.getfixturevalue("user")
    keeper.write(b"\x1b[?1049h\x1b[?2004hfull")
    user.sees(b"full")
    keeper.kill()
    assert user.leaves() == 125
    assert b"the run may go on: attach again" in user.seen
    assert b"\x1b[?2004l\x1b[?1049l" in user.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_right(user: User, number: signal.Signals) -> None:
    os.kill(user.pid, number)
    assert user.leaves() == -number


def test_the_window_size_is_told_and_followed(user: User, keeper: Keeper) -> None:
    assert (keeper.asked["cols"], keeper.asked["rows"]) == (90, 30)
    user.resizes(70, 20)
    keeper.wait_for((protocol.JSON, b'{"resize": [70, 20]}'))
    keeper.say(resized=[50, 10])
    user.types(b"x")
    keeper.wait_typed(b"x")


def test_one_mebibyte_arrives_whole(user: User, keeper: Keeper) -> None:
    output = b"".join(b"%07d\n" % number for number in range(1 << 17))
    keeper.write(output + b"LAST")
    user.sees(b"LAST")
    assert output in user.seen


def test_a_terminal_that_takes_nothing_can_still_be_left(user: User, keeper: Keeper) -> None:
    keeper.write(b"x" * 300_000)
    user.types(b"typed")
    keeper.wait_typed(b"typed")
    user.types(b"\x1c")
    assert user.leaves() == 0


def test_a_run_that_reads_nothing_can_still_be_left(user: User, keeper: Keeper) -> None:
    keeper.listens = False
    for _ in range(100):
        user.types(b"y" * 4000)
    user.types(b"\x1c")
    assert user.leaves() == 0


def test_what_the_log_no_longer_had_is_said(user: User, keeper: Keeper) -> None:
    keeper.say(missed=3 << 20)
    assert b"[3M of output are missing here]" in user.sees(b"missing here]")


def test_two_detach_keys_may_come_apart(folder: pathlib.Path, keeper: Keeper) -> None:
    user = User(folder, "attach", "1a2b", "--detach-keys", "ctrl-p,ctrl-q")
    keeper.write(b"READY")
    user.sees(b"READY")
    user.types(b"\x1ca\x10")
    keeper.wait_typed(b"\x1ca")
    user.types(b"b\x10")
    keeper.wait_typed(b"\x1ca\x10b")
    user.types(b"\x11")
    assert user.leaves() == 0
    assert keeper.typed == b"\x1ca\x10b"
    user.close()


def test_who_only_looks_types_nothing_but_the_detach_keys(
    folder: pathlib.Path, keeper: Keeper
) -> None:
    user = User(folder, "attach", "1a2b3c4d", "--read-only")
    keeper.write(b"READY")
    user.sees(b"READY")
    assert keeper.asked["read_only"] is True
    user.resizes(40, 10)
    user.types(b"rm -rf\r\x1c")
    assert user.leaves() == 0
    assert keeper.heard in ([], [(b"", b"")])
    user.close()


def test_what_was_on_the_screen_is_drawn_first(folder: pathlib.Path, keeper: Keeper) -> None:
    output = b"old\r\n\x1b[H\x1b[2Jpicture\r\n\x1b[?2004h$ "
    (run.folder() / "1a2b3c4d" / "output").write_bytes(output)
    user = User(folder, "attach", "1a2b3c4d")
    keeper.write(b"NEW")
    user.sees(b"NEW")
    assert keeper.asked["from"] == len(output)
    assert b"picture" in user.seen
    assert b"old" not in user.seen
    user.types(b"\x1c")
    assert user.leaves() == 0
    assert b"\x1b[?2004l" in user.seen
    user.close()


def test_a_full_screen_program_is_made_to_redraw_itself(
    folder: pathlib.Path, keeper: Keeper
) -> None:
    (run.folder() / "1a2b3c4d" / "output").write_bytes(b"\x1b[?1049hpicture")
    user = User(folder, "attach", "1a2b3c4d")
    user.sees(b"picture")
    keeper.wait_for((protocol.JSON, b'{"resize": [90, 30]}'))
    assert keeper.heard[:2] == [
        (protocol.JSON, b'{"resize": [90, 29]}'),
        (protocol.JSON, b'{"resize": [90, 30]}'),
    ]
    user.types(b"\x1c")
    assert user.leaves() == 0
    user.close()


@pytest.mark.parametrize(
    ("output", "words"), [(b"\x1b[?1049hpicture", ["--read-only"]), (b"picture", [])]
)
def test_the_window_is_left_alone_by_others(
    folder: pathlib.Path, keeper: Keeper, output: bytes, words: list[str]
) -> None:
    (run.folder() / "1a2b3c4d" / "output").write_bytes(output)
    user = User(folder, "attach", "1a2b3c4d", *words)
    keeper.write(b"READY")
    user.sees(b"READY")
    user.types(b"\x1c")
    assert user.leaves() == 0
    assert all(kind != protocol.JSON for kind, _ in keeper.heard)
    user.close()


def test_without_a_redraw_it_begins_now(folder: pathlib.Path, keeper: Keeper) -> None:
    (run.folder() / "1a2b3c4d" / "output").write_bytes(b"picture")
    user = User(folder, "attach", "1a2b3c4d", "--no-redraw")
    keeper.write(b"NEW")
    user.sees(b"NEW")
    assert keeper.asked["from"] == -1
    assert b"picture" not in user.seen
    user.close()


def test_input_that_is_no_terminal_is_passed_on_to_its_end(
    folder: pathlib.Path, keeper: Keeper
) -> None:
    called = _called(folder, "attach", "1a2b3c4d", data=b"in\x1cput")
    called.stdin.close()
    keeper.wait_for((protocol.END, b""))
    assert keeper.typed == b"in\x1cput"
    keeper.write(b"output" * 100_000)
    keeper.end(exit_status=4)
    assert called.stdout.read() == b"output" * 100_000
    assert called.stderr.read() == b"[m1 ended: exited, status 4]\n"
    assert called.wait(_SECONDS) == 4


def test_a_run_that_ended_long_ago_is_told_without_a_keeper(folder: pathlib.Path) -> None:
    run.save(a_run(ended=run.Ended(1, "exited", exit_status=6)))
    called = _called(folder, "attach", "1a2b3c4d")
    _, told = called.communicate(timeout=_SECONDS)
    assert called.returncode == 6
    assert told == b"[m1 ended: exited, status 6]\n"


def test_the_detach_keys_of_the_environment_count(
    folder: pathlib.Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_DETACH_KEYS", "f12")
    user = User(folder, "attach", "1a2b")
    keeper.write(b"READY")
    user.sees(b"READY")
    user.types(b"\x1c\x1b")
    keeper.wait_typed(b"\x1c\x1b")
    user.types(b"\x1b[24~")
    assert user.leaves() == 0
    user.close()


def test_keys_that_are_none_are_refused(folder: pathlib.Path) -> None:
    called = _called(folder, "attach", "1a2b3c4d", "--detach-keys", "nokey")
    _, told = called.communicate(timeout=_SECONDS)
    assert called.returncode == 2
    assert b"--detach-keys: 'nokey' is no key" in told


def test_a_refusal_of_the_keeper_is_one_line(folder: pathlib.Path) -> None:
    called = _called(folder, "attach", "1a2b3c4d")
    _, told = called.communicate(timeout=_SECONDS)
    assert called.returncode == 125
    # the second where a manager starts what stands in for the keeper, which ends
    assert b"no keeper" in told or b"but has ended" in told
    assert told.count(b"\n") == 1


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (("echo hi",), b"echo hi"),
        (("echo hi", "--enter"), b"echo hi\r"),
        (("--keys", "ctrl-c,up,enter"), b"\x03\x1b[A\r"),
        (("--keys", "C-c M-x"), b"\x03\x1bx"),
        (("--enter",), b"\r"),
        (("--stdin",), b"from stdin"),
    ],
)
def test_text_and_keys_are_sent(
    folder: pathlib.Path, keeper: Keeper, words: tuple[str, ...], typed: bytes
) -> None:
    called = _called(folder, "send", "1a2b3c4d", *words, data=b"from stdin")
    _, told = called.communicate(timeout=_SECONDS)
    assert (called.returncode, told) == (0, b"")
    assert keeper.typed == typed


def test_the_end_of_input_is_sent(folder: pathlib.Path, keeper: Keeper) -> None:
    called = _called(folder, "send", "1a2b3c4d", "last", "--eof", "--timeout", "2s")
    called.communicate(timeout=_SECONDS)
    assert called.returncode == 0
    assert keeper.asked["seconds"] == 2
    assert keeper.heard[:2] == [(protocol.DATA, b"last"), (protocol.END, b"")]


@pytest.mark.parametrize(
    "words", [(), ("text", "--stdin"), ("text", "--keys", "a"), ("--keys", "nokey")]
)
def test_one_way_to_say_what_is_sent(folder: pathlib.Path, words: tuple[str, ...]) -> None:
    called = _called(folder, "send", "1a2b3c4d", *words)
    _, told = called.communicate(timeout=_SECONDS)
    assert called.returncode == 2
    assert told.count(b"\n") == 1


def test_what_the_run_did_not_take_is_said(folder: pathlib.Path, keeper: Keeper) -> None:
    called = _called(folder, "send", "1a2b3c4d", "--stdin", data=b"x")
    keeper.attached()
    keeper.say(problem="the run took 0 bytes, and 1 it did not", hint="it does not read")
    _, told = called.communicate(timeout=_SECONDS)
    assert called.returncode == 1
    assert told == b"scopekeeper: the run took 0 bytes, and 1 it did not; it does not read\n"
