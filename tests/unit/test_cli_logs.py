"""``scopekeeper logs`` shows what a run wrote, with or without anybody who keeps it."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scopekeeper.exec.log import Log
from scopekeeper.exec.run import FILE, Ended, Run, save
from tests.unit.standin import path_without_keeper

ROOT = Path(__file__).parents[2]
ALL = b"one\ntwo\nthree\nfour"
ID = "0123abcd"
RUN = Run(id=ID, session="s", lane="main", name="sh", argv=("sh",), started=1, boot_id="b")
ENDED = dataclasses.replace(RUN, ended=Ended(at=2, reason="exited", exit_status=0))


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state directory of the test's own."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", path_without_keeper(tmp_path))
    return tmp_path / "state"


def written(*pieces, run=ENDED, **how):
    save(run)
    log = Log(run.folder, how.pop("most", 1 << 20), **how)
    for piece in pieces:
        log.write(piece)
    log.close()
    return log


def start(*options, **how):
    return subprocess.Popen(
        [sys.executable, "-m", "scopekeeper", "logs", *options],
        cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **how,
    )  # fmt: skip


def shown(*options):
    """Return the exit status, and what came out and on stderr."""
    with start(*options) as command:
        out, said = command.communicate(timeout=120)
    return command.returncode, out, said.decode()


def test_it_shows_all_byte_for_byte(state):
    data = os.urandom(300_000)
    written(data)
    assert shown(ID) == (0, data, "")
    assert shown(ID[:3], "--raw") == (0, data, "")


def test_it_shows_text(state):
    written(b"\x1b[31mf\xc3", b"\xbcnf\x1b[m\r\n 5%\r95%\r\nno end")
    assert shown(ID, "--text") == (0, "fünf\n95%\nno end".encode(), "")


@pytest.mark.parametrize(
    ("options", "out"),
    [(["-n", "2"], b"three\nfour"), (["--lines", "0"], b""), (["-n", "9"], ALL),
     (["--since", "1h"], ALL), (["--since", "1h", "-n", "1"], b"four")],
)  # fmt: skip
def test_it_shows_the_last_lines(state, options, out):
    written(ALL[:11], ALL[11:])
    assert shown(ID, *options) == (0, out, "")


def test_it_shows_what_was_written_since(state, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: 1_700_000_000 * 10**9)
        written(b"long ago\n")
    written(b"just now\n")
    assert shown(ID, "--since", "1h") == (0, b"just now\n", "")
    assert shown(ID, "--since", "@1699999999") == (0, b"long ago\njust now\n", "")


def test_it_says_what_is_no_longer_kept(state):
    written(b"x" * 1234, b"y" * 1000, most=383, segment=617)
    status, out, said = shown(ID)
    assert (status, out, said) == (0, b"y" * 1000, "scopekeeper: 1,234 bytes are no longer kept\n")
    assert shown(ID, "-n", "0") == (0, b"", "")


def test_it_says_what_is_missing_in_between(state):
    written(b"x" * 100)
    (ENDED.folder / f"out.{101:020}").write_bytes(b"y" * 10)
    assert shown(ID) == (
        0, b"x" * 100 + b"y" * 10, "scopekeeper: 1 byte is missing: the disk took no more\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [(["ffff"], 4, "there is no run 'ffff'"), ([], 2, "Missing argument"),
     ([ID, "--since", "tea time"], 2, "--since: 'tea time' is no time"),
     ([ID, "-n", "-1"], 2, "-1 is not in the range")],
)  # fmt: skip
def test_what_cannot_be_shown_is_one_line(state, options, status, words):
    written(b"x")
    ended, out, said = shown(*options)
    assert (ended, out, said.count("\n")) == (status, b"", 1)
    assert words in said


def test_a_beginning_that_two_runs_have_is_refused(state):
    written(b"x")
    written(b"y", run=dataclasses.replace(ENDED, id="0123ffff", started=2))
    status, _, said = shown("0123")
    assert status == 2
    assert "0123abcd, 0123ffff" in said


def test_it_follows_until_the_run_has_ended(state):
    log = written(b"one\n", run=RUN)
    with start(ID, "-f") as command:
        assert command.stdout.readline() == b"one\n"
        log.write(b"two\n")
        assert command.stdout.readline() == b"two\n"
        log.write(b"the rest")
        save(ENDED)
        assert command.communicate(timeout=120) == (b"the rest", b"")
    assert command.returncode == 0


def test_it_follows_as_text_from_the_last_line_on(state):
    log = written(b"one\r\ntwo\r\n", run=RUN)
    with start(ID, "-f", "--text", "-n", "1") as command:
        assert command.stdout.readline() == b"two\n"
        log.write(b"\x1b[1mthr")
        log.write(b"ee\x1b[m\r\n")
        assert command.stdout.readline() == b"three\n"
        save(ENDED)
        assert command.communicate(timeout=120) == (b"", b"")


def test_following_ends_when_the_run_is_forgotten(state):
    written(b"one\n", run=RUN)
    with start(ID, "-f") as command:
        assert command.stdout.readline() == b"one\n"
        (RUN.folder / FILE).unlink()
        assert command.communicate(timeout=120) == (b"", b"")
    assert command.returncode == 0


def test_interrupted_it_ends_without_a_trace(state):
    written(b"one\n", run=RUN)
    with start(ID, "-f") as command:
        assert command.stdout.readline() == b"one\n"
        command.send_signal(signal.SIGINT)
        out, said = command.communicate(timeout=120)
    assert (command.returncode, out, said.strip()) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize("options", [[], ["--text"], ["-f"]])
def test_a_closed_pipe_ends_it_quietly(state, options):
    written(b"a line\n" * 100_000, run=RUN if "-f" in options else ENDED)
    with start(ID, *options) as command:
        assert command.stdout.readline() == b"a line\n"
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 141


def test_following_sees_a_closed_pipe_though_nothing_is_written(state):
    written(b"one\n", run=RUN)
    with start(ID, "-f") as command:
        assert command.stdout.readline() == b"one\n"
        command.stdout.close()
        assert command.wait(timeout=120) == 141
        assert command.stderr.read() == b""


def test_a_run_that_wrote_nothing_shows_nothing(state):
    save(ENDED)
    assert shown(ID) == (0, b"", "")
