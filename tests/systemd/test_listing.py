"""What `ls`, `history`, `why` and `watch` show of a real machine, on a terminal and in a pipe."""

import os
import re
import signal
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
    text_of,
)

pytestmark = pytest.mark.systemd
UUID = "7f3a9c21-1b2c-4d5e-8f90-123456789abc"


def on_terminal(command: str, columns: int = 80, *, seconds: int = 0) -> list[str]:
    """Return what a command prints on a terminal of that width, without colours; no line is wider.

    A command that ends by Ctrl-C only is interrupted after so many seconds.
    """
    limit = f"timeout --foreground --preserve-status -s INT {seconds} " if seconds else ""
    script = f"stty cols {columns}; {limit}{PROGRAM} {command}"
    ran = subprocess.run(["script", "-qec", script, "/dev/null"], stdin=subprocess.DEVNULL,
                         capture_output=True, text=True)  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    lines = re.sub(r"\x1b\[[0-9]+m", "", ran.stdout).replace("\r\n", "\n").splitlines()
    for line in lines:
        wide = sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line)
        assert wide <= columns, line
    return lines


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that owns members until it is killed."""
    process = subprocess.Popen(FOREVER)
    yield process
    process.kill()
    process.wait()


def test_a_long_name_leaves_room_for_the_rest(keeper: Scopekeeper, session: str) -> None:
    name = "a" * 120 + "z" * 120
    process = keeper.member("-s", session, "-n", name, "--", *FOREVER)

    def is_cut(command: str) -> bool:
        text = "\n".join(on_terminal(command))
        return name not in text and "aaaa…" in text

    assert is_cut(f"ls -s {session} --members")
    assert is_cut(f"why {session}")
    for command in (("ls", "--members"), ("why", session)):
        assert name in keeper.call(*command).stdout
    assert keeper.call("stop", "-s", session).returncode == 0
    process.wait()
    assert is_cut(f"why {session}")
    assert is_cut(f"history -s {session}")
    ran = subprocess.run(["script", "-qec", f"stty cols 80; {PROGRAM} why --no-trunc {session}",
                          "/dev/null"], stdin=subprocess.DEVNULL, capture_output=True,
                         text=True)  # fmt: skip
    assert name in ran.stdout


def test_long_keys_fit_80_columns_and_a_pipe_has_all_of_them(
    keeper: Scopekeeper, session: str
) -> None:
    keys = [f"{session}:telegram:direct:123456789", f"{session}:cron:{UUID}", f"{session}:日本語"]
    for key in keys:
        keeper.member("-s", key, "-n", "filesystem", "--", *FOREVER)
    header, *rows = on_terminal("ls")
    assert {"SESSION", "STATE", "AGE"} <= set(header.split())
    assert len([row for row in rows if " running " in row]) == 3
    assert any("…:123456789 " in row for row in rows)
    assert any("7f3a9c21… " in row for row in rows)
    assert "--no-trunc shows all)" in " ".join(rows[-2:])
    piped = keeper.call("ls").stdout
    assert piped.splitlines()[0].split() == [
        "SESSION", "LANE", "RUN", "KIND", "STATE", "MEMBERS", "PROCS", "MEMORY", "CPU", "AGE",
        "ENDS", "OWNER",
    ]  # fmt: skip
    for key in keys:
        assert key in piped
    narrow = subprocess.run(
        ["script", "-qec", f"stty cols 80; {PROGRAM} ls --no-trunc", "/dev/null"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    *whole, total = narrow.stdout.splitlines()
    assert [line.split()[0] for line in whole] == [line.split()[0] for line in piped.splitlines()]
    assert "3 scopes of 3 sessions, 3 members" in total
    members = on_terminal("ls --members")
    assert sum(line.startswith("    filesystem  pid ") for line in members) == 3


def test_what_outlives_its_owner_is_kept_until_the_moment_that_is_shown(
    keeper: Scopekeeper, session: str, owner: subprocess.Popen[bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rules = tmp_path / "config.toml"
    rules.write_text('[lanes.default]\nsession_grace = "1h"\n')
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path))
    by = f"--owner={owner.pid}"
    process = keeper.member("-s", session, by, "--lifetime=session", "--", *FOREVER)

    def listed() -> tuple[object, ...]:
        (scope,) = keeper.scopes("-s", session)
        return scope["state"], scope["ends"], scope["ends_in_s"]

    assert listed() == ("running", None, None)
    owner.kill()
    owner.wait()
    state, ends, seconds = listed()
    assert (state, ends) == ("kept", "later")
    assert 3590 < float(str(seconds)) <= 3600
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(process.pid)
    rules.write_text('[lanes.default]\nsession_grace = "infinity"\n')
    assert listed() == ("kept", "never", None)
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(process.pid)
    rules.write_text('[lanes.default]\nsession_grace = "0s"\n')
    assert listed() == ("orphan", "now", 0)
    assert keeper.call("reconcile").returncode == 0
    assert not is_alive(process.pid)


def test_an_ended_run_is_listed_with_its_status(
    installed: object, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    run = keeper.call("exec", "-d", "-s", session, "--", "sh", "-c", "exit 3").stdout.strip()
    other = keeper.call("exec", "-d", "-s", session, "--", *FOREVER).stdout.strip()
    assert keeper.call("wait", run).returncode == 3
    assert run not in keeper.call("ls", "-s", session).stdout
    assert keeper.call("stop", other).returncode == 0

    def rows() -> dict[str, list[str]]:
        lines = keeper.call("ls", "-a", "-s", session).stdout.splitlines()[1:]
        return {line.split()[2]: line.split()[3:6] for line in lines}

    wanted = {run: ["pty", "ended", "3"], other: ["pty", "ended", "SIGTERM"]}
    eventually(lambda: rows() == wanted)
    header, *lines = keeper.call("history", "-s", session).stdout.splitlines()
    assert header.split()[3] == "RUN"
    status = {line.split()[4]: line for line in lines}
    assert status.keys() == {run, other}
    assert " exited " in status[run]
    assert "  3  " in status[run]
    assert "  SIGTERM  " in status[other]
    assert len(on_terminal(f"ls -a -s {session}")) >= 3


def test_an_owner_is_known_by_its_program(
    keeper: Scopekeeper, session: str, owner: subprocess.Popen[bytes]
) -> None:
    eventually(lambda: text_of(f"/proc/{owner.pid}/comm") == "sleep\n")
    process = keeper.member("-s", session, f"--owner={owner.pid}", "--", *FOREVER)
    assert record_of(directory_of(process.pid))["OWNER_NAME"] == "sleep"
    assert f"  sleep[{owner.pid}]" in keeper.call("ls", "-s", session).stdout
    assert keeper.call("adopt", "-s", session, f"--owner={os.getpid()}", "--force").returncode == 0
    assert f"  pytest[{os.getpid()}]" in keeper.call("ls", "-s", session).stdout


def test_why_breaks_no_word_on_a_terminal_and_is_one_line_in_a_pipe(
    keeper: Scopekeeper, session: str
) -> None:
    reason = "the configuration of the workspace has changed since its servers were started"
    key = f"why:{session[-8:]}"  # the longest word
    keeper.member("-s", key, "-n", "filesystem", "--", *FOREVER)
    assert keeper.call("stop", "-s", key, "--reason", reason).returncode == 0
    (line,) = keeper.call("why", key).stdout.splitlines()
    assert reason in line
    first, *details = on_terminal(f"why {key}", 50)
    assert "filesystem was stopped by" in first
    assert all(detail.startswith("    ") for detail in details)
    assert set(reason.split()) <= set(" ".join(details).split())


def test_watch_shows_what_is_there_as_there(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    keeper.member("-s", session, "-n", "old", "--", *FOREVER)
    output = tmp_path / "watched"
    with output.open("wb") as file:
        watched = keeper.popen(
            [PROGRAM, "watch", "-s", session], stdout=file, stderr=subprocess.PIPE
        )

    def said(word: str, member: str) -> Callable[[], bool]:
        return lambda: any(
            f"  {word}  " in line and line.split()[-1] == member
            for line in text_of(output).splitlines()
        )

    eventually(said("runs         ", "old"))
    eventually(lambda: "  scope runs  " in text_of(output))
    keeper.member("-s", session, "-n", "new", "--", *FOREVER)
    eventually(said("started      ", "new"))
    watched.terminate()
    watched.wait()
    assert text_of(output).split()[:2] == ["TIME", "EVENT"]
    assert "Started" not in text_of(output)
    assert "scope started" not in text_of(output)
    assert keeper.call("stop", "-s", session).returncode == 0
    ended = keeper.call("history", "-s", session).stdout
    lines = [*text_of(output).splitlines()[1:], *ended.splitlines()[1:]]
    assert {re.sub(r"\d", "9", each[:21]) for each in lines} == {"9999-99-99 99:99:99  "}


@pytest.mark.parametrize(("columns", "dropped"), [(80, ""), (64, "LANE, RUN")])
def test_watch_on_a_terminal_names_the_columns_that_it_lacks_and_what_it_cuts(
    keeper: Scopekeeper, session: str, columns: int, dropped: str
) -> None:
    long = f"{session}:telegram:direct:123456789"
    keeper.member("-s", long, "-n", "old", "--", *FOREVER)
    cut, whole = (
        on_terminal(f"watch -s {long}{option}", wide, seconds=3)
        for option, wide in (("", columns), (" --no-trunc", 300))
    )
    note = f"(not shown: {dropped}; --no-trunc shows all)" if dropped else ""
    assert (note or "(cut to fit; --no-trunc shows all)") in cut
    titles = " ".join(cut).partition("TIME")[2].partition("scopekeeper:")[0]
    assert "DETAIL" in titles
    assert not any(long in line for line in cut)
    assert re.search(rf"\d\d:\d\d:\d\d  runs  .* {'' if dropped else 'main  .* '}old$",
                     "\n".join(cut), re.MULTILINE)  # fmt: skip
    assert any(long in line for line in whole)


@pytest.mark.parametrize("has_scopes", [False, True])
def test_watch_ends_quietly_once_nobody_reads(
    keeper: Scopekeeper, session: str, has_scopes: bool
) -> None:
    if has_scopes:
        keeper.member("-s", session, "--", *FOREVER)
    watched = keeper.popen(
        [PROGRAM, "watch", *(() if has_scopes else ("-s", session))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert watched.stdout is not None
    assert watched.stderr is not None
    assert watched.stdout.readline().split()[:2] == [b"TIME", b"EVENT"]
    watched.stdout.close()
    assert watched.wait(PATIENCE) == 128 + signal.SIGPIPE
    assert watched.stderr.read() in (b"", b"scopekeeper: watching; Ctrl-C ends it\n")


def test_watch_says_that_its_output_cannot_be_written(keeper: Scopekeeper, session: str) -> None:
    keeper.member("-s", session, "--", *FOREVER)
    with open("/dev/full", "wb") as full:
        watched = keeper.popen(
            [PROGRAM, "watch", "-s", session, "--json"], stdout=full, stderr=subprocess.PIPE
        )
    assert watched.wait(PATIENCE) == 1
    assert watched.stderr is not None
    words = watched.stderr.read().decode()
    assert "cannot write to standard output: No space left on device" in words
    assert "checking every" not in words
