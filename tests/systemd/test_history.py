"""Whatever scopekeeper ends, or finds ended, is told once, with its reason and the evidence.

The rows are read with SQLite itself, and the journal with journalctl.
"""

import json
import os
import pwd
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    ROOT,
    Scopekeeper,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    processes,
    record_of,
    rewrite_record,
    wait_for_command,
)

pytestmark = pytest.mark.systemd

STUBBORN = ("sh", "-c", "trap '' TERM HUP INT; echo ready; while :; do sleep 1000; done")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a state directory of its own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder))
    return folder


def rows(folder: Path) -> list[dict[str, object]]:
    """Return the ends in a state directory, the oldest first."""
    if not (folder / "history.db").exists():
        return []
    with closing(sqlite3.connect(f"file:{folder}/history.db?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = os.fsdecode  # a name need not be UTF-8
        if not connection.execute("SELECT * FROM sqlite_schema").fetchall():
            return []  # just being made
        return [dict(row) for row in connection.execute("SELECT * FROM ends ORDER BY ended, row")]


def by_name(folder: Path) -> dict[str, dict[str, object]]:
    """Return the ends by the member's name, of which each has one."""
    told = rows(folder)
    found = {str(row["name"]): row for row in told}
    assert len(found) == len(told)
    return found


def member_of(process: subprocess.Popen[bytes]) -> str:
    """Return the id of a running member."""
    return environment_of(process.pid)["SCOPEKEEPER_MEMBER"].rpartition(".")[2]


def stubborn(keeper: Scopekeeper, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a member that ignores SIGTERM and wait until it does."""
    process = keeper.start(*arguments, "--", *STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def left_by(keeper: Scopekeeper, session: str, *names: str) -> int:
    """Start members whose owner is then killed; return the owner's pid."""
    owner = keeper.popen(["sleep", "infinity"])
    for name in names:
        keeper.member("-s", session, "-n", name, "--owner", str(owner.pid), "--", *FOREVER)
    owner.kill()
    owner.wait()
    return owner.pid


def test_a_stop_is_told_once_for_each_member(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    deaf = stubborn(keeper, "-s", session, "-l", "cron", "--session-id", "life", "-n", "deaf")
    script = "sleep infinity & echo ready; wait"
    pair = keeper.start(
        "-s", session, "-n", "pair", "--", "sh", "-c", script, stdout=subprocess.PIPE
    )
    assert pair.stdout.readline() == b"ready\n"
    ids = {member_of(deaf), member_of(pair)}
    unit = directory_of(pair.pid).split("/")[-2]
    done = keeper.call("stop", "-s", session, "--grace", "400ms", "--reason", "turn is over")
    assert (done.returncode, done.stderr) == (0, "")
    ends = by_name(state)
    assert {row["member_id"] for row in ends.values()} == ids
    for row in ends.values():
        assert row["reason"] == "stopped by request"
        assert row["stopper_pid"] == os.getpid()
        assert row["stopper_uid"] == os.getuid()
        assert str(os.getpid()) in row["evidence"]
        assert "turn is over" in row["evidence"]
        assert row["started"] < row["ended"]
        assert row["cpu_usec"] > 0
    assert json.loads(ends["pair"]["argv"]) == ["sh", "-c", script]
    assert (ends["pair"]["unit"], ends["pair"]["lane"]) == (unit, "main")
    assert (ends["pair"]["processes"], ends["pair"]["killed"]) == (2, 0)
    assert ends["deaf"]["killed"] >= 1
    assert (ends["deaf"]["session_id"], ends["deaf"]["run"]) == ("life", "life")


def test_of_one_members_stop_nothing_is_told_of_its_sibling(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    sibling = keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    keeper.member("-s", session, "-n", "going", "--", *FOREVER)
    assert keeper.call("stop", "-s", session, "-n", "going").returncode == 0
    (row,) = rows(state)
    assert (row["name"], row["session"]) == ("going", session)
    assert row["reason"] == "stopped by request"
    assert is_alive(sibling.pid)


def test_two_stops_at_once_are_one_row(keeper: Scopekeeper, session: str, state: Path) -> None:
    stubborn(keeper, "-s", session)
    argv = [keeper.argv()[0], "stop", "-s", session, "--grace", "300ms"]
    stops = [keeper.popen(argv, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert {stop.wait() for stop in stops} == {0}
    (row,) = rows(state)
    assert row["reason"] == "stopped by request"


def test_a_stop_from_inside_tells_of_its_callers_end(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    stop = " ".join([*keeper.argv()[:1], "stop", "-s", session, "--grace", "300ms"])
    caller = keeper.member("-s", session, "-n", "caller", "--", "sh", "-c", f"{stop}; sleep 1000")
    assert caller.wait() in (-signal.SIGTERM, -signal.SIGKILL)
    row = eventually(lambda: by_name(state).get("caller"))
    assert (row["reason"], row["stopper_pid"]) == ("stopped by request", caller.pid)
    assert row["stopper_command"] == "sh"


def test_what_lost_its_owner_is_told_with_the_proof(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    owner = left_by(keeper, session, "one", "two")
    assert keeper.call("reconcile").returncode == 0
    ends = by_name(state)
    assert set(ends) == {"one", "two"}
    for row in ends.values():
        assert (row["reason"], row["owner"]) == ("owner gone", f"pid {owner}")
        assert row["evidence"] == f"process {owner} has ended"


def test_what_is_over_its_time_is_told_so(keeper: Scopekeeper, session: str, state: Path) -> None:
    process = keeper.member("-s", session, "--", *FOREVER)
    rewrite_record(os.path.dirname(directory_of(process.pid)), TTL="1")
    assert keeper.call("reconcile").returncode == 0
    (row,) = rows(state)
    assert row["reason"] == "ttl"


def test_what_is_replaced_is_superseded(keeper: Scopekeeper, session: str, state: Path) -> None:
    keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    old = keeper.member("-s", session, "-n", "git", "--", *FOREVER)
    old_id = member_of(old)
    new = keeper.start("-s", session, "-n", "git", "--replace", "--", *FOREVER)
    wait_for_command(new)
    (row,) = rows(state)
    assert (row["reason"], row["member_id"]) == ("superseded", old_id)
    assert str(new.pid) in row["evidence"]


def test_what_nobody_saw_end_is_unknown_and_told_once(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    assert keeper.run("-s", session, "-n", "failing", "--", "sh", "-c", "exit 7").returncode == 7
    for _ in range(2):
        assert keeper.call("reconcile").returncode == 0
    (row,) = rows(state)
    assert (row["name"], row["reason"], row["seen"]) == ("failing", "unknown", 0)
    assert "nobody watched it end" in row["evidence"]
    assert row["exit_status"] is None
    assert keeper.call("stop", "-s", session).returncode == 0
    assert set(by_name(state)) == {"failing", "sibling"}


def test_a_dry_run_tells_nothing(keeper: Scopekeeper, session: str, state: Path) -> None:
    left_by(keeper, session, "left")
    assert keeper.call("reconcile", "--dry-run").returncode == 0
    assert rows(state) == []


@pytest.mark.parametrize("by", ["reconcile", "launch"])
def test_a_stop_that_was_killed_keeps_its_reason(
    keeper: Scopekeeper, session: str, state: Path, by: str
) -> None:
    old = stubborn(keeper, "-s", session, "-n", "old", "--grace", "500ms")
    directory = os.path.dirname(directory_of(old.pid))
    stop = keeper.popen(
        [keeper.argv()[0], "stop", "-s", session, "--grace", "1000s", "--reason", "turn is over"]
    )
    eventually(lambda: record_of(directory).get("STATE") == "stopping")
    assert record_of(directory)["WHY"] == "stopped by request"
    stop.kill()
    stop.wait()
    if by == "reconcile":
        assert keeper.call("reconcile").returncode == 0
    else:
        keeper.member("-s", session, "-n", "new", "--", *FOREVER)
    assert old.wait() == -signal.SIGKILL
    row = eventually(lambda: by_name(state).get("old"))
    assert row["reason"] == "stopped by request"
    assert "turn is over" in row["evidence"]
    assert row["stopper_pid"] == os.getpid()


def test_each_of_several_attempts_has_its_own_reason(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    words = ["no answer to initialize in 30 s", "no answer to initialize in 30 s", "tool timed out"]
    for text in words:
        keeper.member("-s", session, "-n", "git", "--", *FOREVER)
        assert keeper.call("stop", "-s", session, "-n", "git", "--reason", text).returncode == 0
    keeper.run("-s", session, "-n", "git", "--", "sh", "-c", "exit 1")
    assert keeper.call("reconcile").returncode == 0
    owner = left_by(keeper, session, "git")
    assert keeper.call("reconcile").returncode == 0
    told = keeper.call("why", session)
    assert (told.returncode, told.stderr) == (0, "")
    first, *lines = told.stdout.splitlines()
    assert len(lines) == 5
    for line, text in zip(lines, words, strict=False):
        assert "was stopped by request" in line
        assert text in line
    assert "for an unknown reason" in lines[3]
    assert "nobody watched it end" in lines[3]
    assert "its owner is gone, " in lines[4]
    assert f"process {owner} has ended" in lines[4]
    assert re.fullmatch(r"sibling \(m-sibling\.\w{8} in .* is running since .*\.", first)


def test_what_runs_comes_first_and_only_the_newest_ends_follow(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    for number in range(23):
        keeper.run("-s", session, "-n", f"n{number:02d}", "--", "true")
    assert keeper.call("reconcile").returncode == 0
    keeper.member("-s", session, "-n", "living", "--", *FOREVER)
    told = keeper.call("why", session)
    assert told.stderr == "Only the newest 20 ends are shown; --all shows every one.\n"
    first, *lines = told.stdout.splitlines()
    assert "living (m-living." in first
    assert [re.search(r"  (n\d\d) ", line)[1] for line in lines] == [
        f"n{number:02d}" for number in range(3, 23)
    ]
    told = keeper.call("why", session, "--all")
    assert (told.stderr, told.stdout.count("\n")) == ("", 24)
    assert keeper.call("why", session, "--limit", "23").stderr == ""
    assert len(json.loads(keeper.call("why", session, "--json").stdout)["ends"]) == 23
    cut = json.loads(keeper.call("why", session, "--json", "--limit", "2").stdout)
    assert (len(cut["ends"]), cut["has_more"]) == (2, True)
    assert keeper.call("why", session, "--all", "--limit", "2").returncode == 2


def test_options_and_a_pair_narrow_it_down(keeper: Scopekeeper, session: str, state: Path) -> None:
    other = f"{session}/b"
    for key, lane, name in ((session, "a", "git"), (session, "b", "git"), (session, "a", "x"),
                            (other, "a", "git")):  # fmt: skip
        keeper.member("-s", key, "-l", lane, "-n", name, "--", *FOREVER)

    def seen(*words: str) -> list[tuple[str, str, str]]:
        told = json.loads(keeper.call("why", "--json", *words).stdout)
        kept = [*told["running"], *told["ends"]]
        return sorted((each["session"], each["lane"], each["member"]) for each in kept)

    def are_found() -> None:
        git = [(session, lane, "git") for lane in ("a", "b")]
        assert seen("-s", session) == [git[0], (session, "a", "x"), git[1]]
        assert seen("-s", session, "-n", "git") == git
        assert seen(session, "-n", "git", "-l", "b") == git[1:]
        assert seen(f"{session}/git") == git
        assert seen(f"{session}/git", "-l", "a") == git[:1]
        assert seen(other) == [(other, "a", "git")], "the whole word comes first"
        assert seen(f"{other}/git") == [(other, "a", "git")]
        assert seen("-s", session, "-n", "nobody") == []

    are_found()
    for key in (session, other):
        assert keeper.call("stop", "-s", key).returncode == 0
    are_found()
    assert keeper.call("why").returncode == 2
    assert "no target given" in keeper.call("why").stderr


@pytest.mark.parametrize("what", ["session", "unit", "id", "leaf", "name"])
def test_why_takes_whatever_names_it(
    keeper: Scopekeeper, session: str, state: Path, what: str
) -> None:
    process = keeper.member("-s", session, "-n", "m" + session[-8:], "--", *FOREVER)
    names = {
        "session": session,
        "unit": directory_of(process.pid).split("/")[-2],
        "id": member_of(process),
        "leaf": environment_of(process.pid)["SCOPEKEEPER_MEMBER"],
        "name": "m" + session[-8:],
    }
    assert "is running since" in keeper.call("why", "--must-exist", names[what]).stdout
    assert keeper.call("stop", "-s", session).returncode == 0
    assert "was stopped by request" in keeper.call("why", "--must-exist", names[what]).stdout
    (end,) = json.loads(keeper.call("why", "--json", names[what]).stdout)["ends"]
    assert (end["reason"], end["argv"]) == ("stopped by request", list(FOREVER))


def test_nothing_known_is_said(keeper: Scopekeeper, session: str, state: Path) -> None:
    done = keeper.call("why", session)
    assert (done.returncode, done.stdout) == (0, f"Nothing is known of {session}.\n")
    assert keeper.call("why", session, "--must-exist").returncode == 4
    assert not state.exists(), "a question makes nothing"


def test_history_lists_what_is_asked_for(keeper: Scopekeeper, session: str, state: Path) -> None:
    keeper.member("-s", session, "-n", "one", "--", *FOREVER)
    assert keeper.call("stop", "-s", session).returncode == 0
    left_by(keeper, session + "x", "two")
    assert keeper.call("reconcile").returncode == 0

    def names(*options: str) -> list[str]:
        done = keeper.call("history", "--json", *options)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["version"] == 1
        return [end["member"] for end in answer["ends"]]

    assert names() == ["one", "two"]
    assert names("-s", session) == names("--reason", "stopped-by-request") == ["one"]
    assert names("--reason", "owner gone") == names("--limit", "1") == ["two"]
    assert names("--reason", "ttl") == names("--since", "@9999999999") == []
    assert names("--since", "1h") == ["one", "two"]
    table = keeper.call("history").stdout.splitlines()
    assert len(table) == 3
    assert session in table[1]


@pytest.mark.parametrize(
    "arguments", [["--since", "yesterday"], ["--reason", "boredom"], ["--limit", "0"], ["x"]]
)
def test_a_wrong_call_is_one_line(keeper: Scopekeeper, state: Path, arguments: list[str]) -> None:
    done = keeper.call("history", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_nothing_in_it_is_obeyed_by_a_terminal(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    keeper.member("-s", session, "-n", "a\x1b[2Jb\nc", "--", *FOREVER)
    keeper.call("stop", "-s", session, "--reason", "x\x1b]0;y\x07\nz")
    for command in (["history"], ["why", session]):
        printed = keeper.call(*command).stdout
        assert "\x1b" not in printed
        assert "\x07" not in printed
        assert "a\\x1b[2Jb\\nc" in printed
    assert len(keeper.call("why", session).stdout.splitlines()) == 1


def test_without_a_word_it_is_in_the_users_own_place(keeper: Scopekeeper, session: str) -> None:
    keeper.member("-s", session, "--", *FOREVER)
    assert keeper.call("stop", "-s", session).returncode == 0
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    folder = Path("/var/lib/scopekeeper") if ROOT else home / ".local/state/scopekeeper"
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [path for path in folder.iterdir() if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert [row["reason"] for row in rows(folder) if row["session"] == session] == [
        "stopped by request"
    ]


def test_no_argument_is_in_the_records_or_in_the_journal(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    process = keeper.member("-s", session, "--", "sleep", "98765")
    leaf = directory_of(process.pid)
    for directory in (leaf, os.path.dirname(leaf)):
        assert "98765" not in str(record_of(directory))
    assert keeper.call("stop", "-s", session).returncode == 0
    assert "98765" in str(rows(state))
    if ROOT:
        assert "98765" not in str(entries(session))


def entries(session: str) -> list[dict[str, str]]:
    """Return the journal's entries about a session."""
    told = subprocess.run(
        ["journalctl", "--quiet", "--output=json", f"SCOPEKEEPER_SESSION={session}"],
        capture_output=True, text=True,
    )  # fmt: skip
    return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.mark.root
def test_the_journal_is_told_once_for_each_end(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    process = keeper.member("-s", session, "-n", "one", "--", *FOREVER)
    unit, leaf = directory_of(process.pid).split("/")[-2:]
    keeper.member("-s", session, "-n", "two", "--", *FOREVER)
    assert keeper.call("stop", "-s", session, "--reason", "turn is over").returncode == 0
    found = eventually(lambda: (e := entries(session)) and len(e) == 2 and e)
    (one,) = [entry for entry in found if entry["SCOPEKEEPER_MEMBER"] == leaf]
    assert one["SCOPEKEEPER_SCOPE"] == unit
    assert one["SCOPEKEEPER_LANE"] == "main"
    assert one["SCOPEKEEPER_REASON"] == "stopped by request"
    assert re.fullmatch("[0-9a-f]{32}", one["MESSAGE_ID"])
    assert "turn is over" in one["MESSAGE"]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a small file system of the test's own for the state directory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(folder)]
    assert subprocess.run(mount).returncode == 0
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder / "state"))
    yield folder
    assert subprocess.run(["umount", str(folder)]).returncode == 0


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return path


@pytest.mark.root
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_without_a_disk_all_goes_on_but_the_history(
    keeper: Scopekeeper, session: str, disk: Path, trouble: str, begun: bool
) -> None:
    if begun:
        keeper.member("-s", session, "-n", "before", "--", *FOREVER)
        assert keeper.call("stop", "-s", session).returncode == 0
    if trouble == "full":
        filler = fill(disk)
    else:
        assert subprocess.run(["mount", "-o", "remount,ro", str(disk)]).returncode == 0
    many = [keeper.member("-s", session, "-n", f"m{n}", "--", *FOREVER) for n in range(12)]
    orphans = left_by(keeper, session + "x", "orphan")
    for done in (keeper.call("stop", "-s", session), keeper.call("reconcile")):
        assert done.returncode == 0
        assert done.stderr.startswith("scopekeeper: warning: the history was not written: ")
        assert done.stderr.count("\n") == 1
        assert re.search(r"full|No space|read-only|Read-only", done.stderr)
    assert orphans
    assert {process.wait() for process in many} == {-signal.SIGTERM}
    told = keeper.call("why", session)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("was stopped by request") == begun
    if trouble == "full":
        filler.unlink()
    else:
        assert subprocess.run(["mount", "-o", "remount,rw", str(disk)]).returncode == 0
    after = keeper.member("-s", session, "-n", "after", "--", *FOREVER)
    done = keeper.call("stop", "-s", session)
    assert (done.returncode, done.stderr) == (0, "")
    assert after.wait() == -signal.SIGTERM
    assert "after" in by_name(disk / "state")


def test_a_damaged_history_is_said_once_and_begun_anew(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    state.mkdir(0o700)
    (state / "history.db").write_bytes(b"nonsense" * 1000)
    done = keeper.call("why", session)
    assert (done.returncode, done.stdout) == (1, "")
    assert "damaged" in done.stderr
    keeper.member("-s", session, "--", *FOREVER)
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0
    assert "damaged" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(rows(state)) == 1
    keeper.member("-s", session, "--", *FOREVER)
    assert keeper.call("stop", "-s", session).stderr == ""
    assert len(rows(state)) == 2


def test_a_stop_killed_at_any_moment_leaves_a_history_that_can_be_used(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    for attempt in range(12):
        process = keeper.member("-s", session, "-n", f"m{attempt}", "--", *FOREVER)
        leaf = directory_of(process.pid)
        stop = keeper.popen([keeper.argv()[0], "stop", "-s", session], stdout=subprocess.DEVNULL)
        eventually(lambda stop=stop: "-wal" in opened(stop.pid) or stop.poll() is not None)
        stop.kill()
        stop.wait()
        assert process.wait() == -signal.SIGTERM
        eventually(lambda leaf=leaf: not processes(leaf))
        told = keeper.call("why", session)
        assert told.returncode == 0, told.stderr
    keeper.member("-s", session, "-n", "last", "--", *FOREVER)
    done = keeper.call("stop", "-s", session)
    assert (done.returncode, done.stderr) == (0, "")
    assert "last" in by_name(state)


def opened(pid: int) -> str:
    """Return the files that a process holds open."""
    try:
        return " ".join(os.readlink(fd.path) for fd in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return ""
