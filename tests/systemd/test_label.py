"""``label`` gives a living scope a second name of its session, as a client names it too late.

Records are read from the cgroup itself, and rows of the history with SQLite.
"""

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

import scopekeeper
from scopekeeper.errors import ConflictError, NotFoundError, UsageError
from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    directory_of,
    end_cgroup,
    eventually,
    is_alive,
    record_of,
    rewrite_record,
    rounds,
)
from tests.viewer import Viewer

from .bus import BUS, allowed, busctl
from .guard import Keeper
from .test_history import STUBBORN, rows

pytestmark = pytest.mark.systemd

ID = "0199a213-8b1c-7d52-9f0e-2b8f0c6b7e11"
LABEL = f"codex:{ID}"


@dataclass
class Client:
    """A client that names no session, and starts servers: their session is named after it."""

    keeper: Scopekeeper
    pid: int

    @property
    def session(self) -> str:
        return f"sleep-{self.pid}"

    @property
    def unit(self) -> str:
        return f"scopekeeper-sleep\\x2d{self.pid}-main.scope"

    def server(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        return self.keeper.member("-n", name, "--owner", str(self.pid), *more, "--", *FOREVER)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a state folder of its own."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def client(keeper: Scopekeeper, state: Path) -> Client:
    assert state
    return Client(keeper, keeper.popen(["sleep", "infinity"]).pid)


def scope_of(process: subprocess.Popen[bytes]) -> str:
    """Return the directory of the scope that a member is in."""
    return os.path.dirname(directory_of(process.pid))


def test_a_label_stands_and_selects_where_the_session_does(
    client: Client, keeper: Scopekeeper, session: str
) -> None:
    server = client.server("time")
    other = keeper.member("-s", session, "--", *FOREVER)
    scope, before = scope_of(server), record_of(scope_of(server))
    done = keeper.call("label", client.session, "--as", LABEL)
    assert (done.returncode, done.stdout, done.stderr) == (
        0, f"{client.unit}: labelled {LABEL}\n", "",
    )  # fmt: skip
    assert record_of(scope) == before | {"LABEL": LABEL}, "nothing else of the record changes"
    later = client.server("git")
    assert scope_of(later) == scope, "a launch does not look at the label"

    for named in ((LABEL,), ("-s", LABEL), (client.session,), ("-s", client.session)):
        (listed,) = keeper.scopes(*named)
        assert (listed["unit"], listed["session"], listed["label"]) == (
            client.unit, client.session, LABEL,
        )  # fmt: skip
        shown = keeper.call("ls", *named).stdout.splitlines()
        assert shown[1].split()[0] == LABEL
        is_own = client.session in named
        assert shown[2:] == [f"    labelled; its own session is {client.session}"] * is_own
        preview = keeper.call("stop", *named, "--dry-run").stdout
        assert preview.startswith(f"{client.unit} ({LABEL}): would end 2 members, 2 processes")
    (document,) = json.loads(keeper.call("stop", LABEL, "--dry-run", "--json").stdout)["stopped"]
    assert document["label"] == LABEL
    table = keeper.call("reconcile", "--dry-run", "-s", LABEL).stdout.splitlines()
    assert [line.split()[0] for line in table[1:]] == [LABEL] * 2
    actions = json.loads(keeper.call("reconcile", "--dry-run", "-s", LABEL, "--json").stdout)
    assert {each["label"] for each in actions["actions"]} == {LABEL}
    (adopted,) = keeper.call("adopt", LABEL, "-n", "git", "--force").stdout.splitlines()
    assert adopted.startswith(f"{client.unit} ({LABEL}): git: now owned by")
    assert f"in {LABEL}, lane main)" in keeper.call("why", LABEL).stdout
    runs = json.loads(keeper.call("why", LABEL, "--json").stdout)["running"]
    assert [(each["session"], each["label"]) for each in runs] == [(client.session, LABEL)] * 2

    stopped = keeper.call("stop", "-s", LABEL)
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.startswith(f"{client.unit} ({LABEL}): gone after")
    assert {server.wait(PATIENCE), later.wait(PATIENCE)} == {-signal.SIGTERM}
    assert is_alive(other.pid)


def test_what_has_no_label_is_shown_as_before(client: Client, keeper: Scopekeeper) -> None:
    client.server("time")
    (listed,) = keeper.scopes(client.session)
    assert (listed["session"], listed["label"]) == (client.session, None)
    assert keeper.call("ls", client.session).stdout.splitlines()[1].startswith(client.session)
    assert keeper.call("stop", client.session).stdout.startswith(f"{client.unit}: gone after")


def test_a_terminal_of_80_columns_shows_which_session_it_is(
    client: Client,
    keeper: Scopekeeper,
    viewer: Callable[..., Viewer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    client.server("time")
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    for options, own in (((), 0), (("--members",), 1), (("--no-trunc",), 1)):
        shown = viewer("ls", *options)
        assert shown.status() == 0
        eventually(lambda shown=shown, own=own: len(shown.raw.splitlines()) > 1 + own)
        text = shown.raw.decode().replace("\r", "").splitlines()
        (row,) = [line for line in text if line.startswith("codex:")]
        assert row.startswith("codex:0199a213")
        assert (LABEL in row) == (options == ("--no-trunc",))
        lines = [line for line in text if f"own session is {client.session}" in line]
        assert len(lines) == own, text
        if options != ("--no-trunc",):
            assert max(map(len, text)) <= 80


def test_labelling_again_replaces_and_a_label_can_be_removed(
    client: Client, keeper: Scopekeeper
) -> None:
    scope = scope_of(client.server("time"))
    before = record_of(scope)

    def say(*arguments: str) -> str:
        done = keeper.call("label", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.removeprefix(f"{client.unit}: ").removesuffix("\n")

    assert say("--owner", str(client.pid), "--as", "codex:1") == "labelled codex:1"
    assert say("codex:1", "--as", "codex:1") == "labelled codex:1"
    assert say("codex:1", "--as", "codex:2") == "labelled codex:2, no longer codex:1"
    assert record_of(scope)["LABEL"] == "codex:2"
    assert keeper.call("stop", "codex:1", "--dry-run").returncode == 4
    assert say("-s", "codex:2", "--clear") == "no longer labelled codex:2"
    assert record_of(scope) == before
    assert say(client.session, "--clear") == "has no label"
    assert say(client.session, "--as", client.session) == "has no label"
    long = "ü" * 512
    assert say(client.session, "--as", long) == f"labelled {long}"
    assert say(client.unit, "--as", "a\tb c") == f"labelled a\\tb c, no longer {long}"
    document = json.loads(keeper.call("label", client.unit, "--as", "codex:3", "--json").stdout)
    assert document["label"] == "codex:3"
    (one,) = document["scopes"]
    assert (one["unit"], one["session"], one["label"], one["before"], one["labelled"]) == (
        client.unit, client.session, "codex:3", "a\tb c", True,
    )  # fmt: skip


def test_only_scopes_that_nobody_has_named_are_labelled_if_that_is_asked(
    client: Client, keeper: Scopekeeper, session: str
) -> None:
    unnamed = client.server("time")
    named = client.server("git", "-s", session)
    owner = ("--owner", str(client.pid), "--unnamed")
    done = keeper.call("label", *owner, "--as", LABEL)
    assert (done.returncode, done.stdout) == (0, f"{client.unit}: labelled {LABEL}\n")
    assert "LABEL" not in record_of(scope_of(named))
    again = keeper.call("label", *owner, "--as", "codex:2")
    assert again.returncode == 4
    assert record_of(scope_of(unnamed))["LABEL"] == LABEL


def test_a_wrong_call_gets_one_line_and_changes_nothing(
    client: Client, keeper: Scopekeeper, session: str
) -> None:
    scope = scope_of(client.server("time"))
    before = record_of(scope)
    for arguments, status, words in (
        ((client.session,), 2, "no label given; give --as LABEL"),
        ((client.session, "--as", "x", "--clear"), 2, "--as and --clear exclude each other"),
        ((client.session, "--as", ""), 2, "the label is empty"),
        ((client.session, "--as", "x" * 513), 2, "the label has 513 characters; the most is 512"),
        (("--as", "x"), 2, "no target given"),
        (("-l", "main", "--as", "x"), 2, "no target given"),
        ((session, "--as", "x"), 4, f"{session!r}"),
        (("-s", session, "--as", "x"), 4, "Nothing matched"),
    ):
        done = keeper.call("label", *arguments)
        assert done.returncode == status, arguments
        said = done.stdout + done.stderr
        assert words in said
        assert said.count("\n") == 1, said
        assert "Traceback" not in said
    assert record_of(scope) == before


def test_what_cannot_be_labelled_is_skipped_with_one_line(
    client: Client, keeper: Scopekeeper, session: str
) -> None:
    def skipped(*arguments: str) -> str:
        done = keeper.call("label", *arguments, "--as", LABEL)
        assert (done.returncode, done.stderr) == (1, "")
        (line,) = done.stdout.splitlines()
        return line.partition(": skipped: ")[2]

    scope = scope_of(client.server("time"))
    client.server("git")
    assert skipped("-s", client.session, "-n", "git").startswith("1 of its 2 members are not")
    raw = os.getxattr(scope, "user.scopekeeper")
    os.setxattr(scope, "user.scopekeeper", b"nonsense")
    assert skipped(client.unit).startswith("the record is damaged")
    assert os.getxattr(scope, "user.scopekeeper") == b"nonsense"
    os.setxattr(scope, "user.scopekeeper", raw)
    rewrite_record(scope, SESSION="another")
    assert skipped(client.session).startswith("its record says session another")
    os.setxattr(scope, "user.scopekeeper", raw)

    stubborn = keeper.start("-s", session, "--grace", "60s", "--", *STUBBORN,
                            stdout=subprocess.PIPE)  # fmt: skip
    assert stubborn.stdout.readline() == b"ready\n"
    directory = scope_of(stubborn)
    stop = keeper.popen([PROGRAM, "stop", "-s", session], stdout=subprocess.DEVNULL)
    eventually(lambda: record_of(directory).get("STATE") == "stopping")
    marked = record_of(directory)
    assert skipped(session) == "it is being stopped"
    assert record_of(directory) == marked
    end_cgroup(directory)
    assert stop.wait(PATIENCE) == 0


def named(found: list[dict[str, object]]) -> set[tuple[object, object]]:
    return {(row["name"], row["label"]) for row in found}


def test_an_end_that_nobody_sees_is_found_by_the_label(
    client: Client, keeper: Scopekeeper, state: Path
) -> None:
    early = client.server("early")
    assert keeper.call("label", client.session, "--as", "codex:1").returncode == 0
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    late = client.server("late")
    directory = scope_of(late)
    for member in (early, late):
        member.send_signal(signal.SIGKILL)
        member.wait()
    eventually(lambda: not os.path.exists(directory))
    owner = str(keeper.popen(["sleep", "infinity"]).pid)
    other = keeper.member("-s", client.session, "-n", "other", "--owner", owner, "--", *FOREVER)
    assert scope_of(other) == directory, "another scope of the same name, of another owner"
    other.send_signal(signal.SIGKILL)
    other.wait()
    eventually(lambda: not os.path.exists(directory))

    shown = keeper.call("why", LABEL).stdout.splitlines()
    assert [line.split()[2] for line in shown] == ["early", "late"]
    assert all(f"in {LABEL}, lane main)" in line for line in shown)
    assert named(rows(state)) == {("early", LABEL), ("late", LABEL), ("other", "")}
    ends = json.loads(keeper.call("history", "-s", LABEL, "--json").stdout)["ends"]
    assert [(end["session"], end["label"]) for end in ends] == [(client.session, LABEL)] * 2
    assert len(keeper.call("history", "-s", client.session).stdout.splitlines()) == 4
    assert keeper.call("history").stdout.splitlines()[1].split()[2] == LABEL
    assert "Nothing is known" in keeper.call("why", "codex:1").stdout


def test_a_label_outlives_the_cleaning_of_the_ledger(
    client: Client, keeper: Scopekeeper, state: Path
) -> None:
    """Each look drops the lines of what has ended, and moves the others on."""
    first, second, last = (client.server(name) for name in ("first", "second", "last"))
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    directory = scope_of(last)
    for member in (first, second):
        member.send_signal(signal.SIGKILL)
        member.wait()
        assert keeper.call("history").returncode == 0
        for path in Path(os.path.dirname(_ledger())).glob("launches*.old"):
            os.utime(path, (1, 1))  # no launch can be writing to it any more
        assert keeper.call("history").returncode == 0
    last.send_signal(signal.SIGKILL)
    last.wait()
    eventually(lambda: not os.path.exists(directory))
    assert keeper.call("history").returncode == 0
    assert named(rows(state)) == {(name, LABEL) for name in ("first", "second", "last")}


def _ledger() -> str:
    from scopekeeper.history import launch_ledger

    return launch_ledger.path()


def test_a_stop_without_a_keeper_is_found_by_the_label(
    client: Client, keeper: Scopekeeper, state: Path
) -> None:
    client.server("time")
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    assert keeper.call("stop", client.session, "--note", "no more").returncode == 0
    assert named(rows(state)) == {("time", LABEL)}
    told = keeper.call("why", "-s", LABEL).stdout
    assert "was stopped by request" in told
    assert "no more" in told


def living(guard: Keeper) -> set[tuple[str, str]]:
    """Return what the keeper has written of living members: names and labels."""
    where = f"file:{guard.state}/history.db?mode=ro"
    try:
        with closing(sqlite3.connect(where, uri=True)) as connection:
            return set(connection.execute("SELECT name, label FROM living"))
    except sqlite3.OperationalError:
        return set()  # it has yet to be made


def test_a_keeper_records_ends_with_the_label(
    guard: Keeper, keeper: Scopekeeper, tmp_path: Path
) -> None:
    guard.start()
    client = Client(keeper, keeper.popen(["sleep", "infinity"]).pid)
    early = client.server("early")
    watch = keeper.popen(
        [PROGRAM, "watch", "-s", LABEL, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert b"watching" in watch.stderr.readline()
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    late = client.server("late")
    eventually(lambda: living(guard) == {("early", LABEL), ("late", LABEL)})
    events = [json.loads(watch.stdout.readline()) for _ in range(2)]
    assert [each["event"] for each in events] == ["ScopeLabelled", "MemberStarted"]
    assert {(each["session"], each["label"]) for each in events} == {(client.session, LABEL)}
    early.send_signal(signal.SIGKILL)
    early.wait()
    eventually(lambda: named(rows(guard.state)) == {("early", LABEL)})
    directory = scope_of(late)
    assert keeper.call("label", LABEL, "--as", "codex:2").returncode == 0
    late.send_signal(signal.SIGKILL)  # maybe before the keeper has read the label
    late.wait()
    eventually(lambda: not os.path.exists(directory))
    eventually(lambda: named(rows(guard.state)) == {("early", LABEL), ("late", "codex:2")})
    assert "late (m-late." in keeper.call("why", "codex:2").stdout
    watch.terminate()
    assert watch.wait(PATIENCE) == 0


def test_a_label_is_known_after_a_keeper_that_was_killed(
    guard: Keeper, keeper: Scopekeeper
) -> None:
    guard.start()
    client = Client(keeper, keeper.popen(["sleep", "infinity"]).pid)
    server = client.server("time")
    eventually(lambda: living(guard) == {("time", "")})
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    eventually(lambda: living(guard) == {("time", LABEL)})
    before = guard.pid
    os.kill(before, signal.SIGKILL)
    server.send_signal(signal.SIGKILL)
    server.wait()
    eventually(lambda: guard.pid not in (0, before))
    eventually(lambda: named(rows(guard.state)) == {("time", LABEL)})


def test_launches_and_labels_at_once_lose_nothing(client: Client, keeper: Scopekeeper) -> None:
    scope = scope_of(client.server("first"))
    before = record_of(scope)
    for number, _ in enumerate(rounds(20, least=3)):
        racers = [
            keeper.start("-n", f"m{number}-{at}", "--owner", str(client.pid), "--", *FOREVER)
            for at in range(6)
        ]
        labels = [
            keeper.popen([PROGRAM, "label", client.unit, "--as", f"codex:{number}-{at}"],
                         stdout=subprocess.PIPE, text=True)
            for at in range(2)
        ]  # fmt: skip
        assert [each.wait(PATIENCE) for each in labels] == [0, 0]
        eventually(lambda racers=racers: {cgroup_of(r.pid).split("/")[-2] for r in racers}
                   == {client.unit})  # fmt: skip
        now = record_of(scope)
        assert now == before | {"LABEL": now["LABEL"]}
        assert now["LABEL"].startswith(f"codex:{number}-")
    assert keeper.call("stop", now["LABEL"]).returncode == 0
    assert not os.path.exists(scope)


def test_a_label_waits_for_what_is_changing_the_scope_but_not_for_long(
    client: Client, keeper: Scopekeeper
) -> None:
    scope = scope_of(client.server("time"))
    before = record_of(scope)
    lock = os.open(f"{scope}/cgroup.kill", os.O_WRONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as a launch that joins
        done = keeper.call("label", client.session, "--as", LABEL)
        assert (done.returncode, record_of(scope)) == (1, before)
        assert done.stdout.endswith("skipped: another process is changing it; try again\n")
        waiting = keeper.popen([PROGRAM, "label", client.session, "--as", LABEL],
                               stdout=subprocess.DEVNULL)  # fmt: skip
        eventually(lambda: f"{scope}/cgroup.kill" in opened_by(waiting.pid), pause=0.01)
    finally:
        os.close(lock)
    assert waiting.wait(PATIENCE) == 0
    assert record_of(scope)["LABEL"] == LABEL


def opened_by(pid: int) -> set[str]:
    """Return the files that a process has open."""
    found = set()
    with suppress(OSError):
        for each in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.add(os.readlink(each.path))
    return found


def test_a_stop_and_a_label_at_once_end_the_scope(keeper: Scopekeeper, state: Path) -> None:
    """The history has the label if and only if the scope had it."""
    wanted = {}
    for part in rounds(24, least=4, seconds=4):
        client = Client(keeper, keeper.popen(["sleep", "infinity"]).pid)
        server = client.server(f"of-{client.pid}")
        calls = (["stop", client.unit], ["label", client.unit, "--as", LABEL])
        racers = {}
        for words in calls if part < 0.5 else reversed(calls):
            racers[words[0]] = keeper.popen(
                [PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            with suppress(subprocess.TimeoutExpired):
                racers[words[0]].wait(abs(part - 0.5) * 0.2)
        _, said = racers["label"].communicate(timeout=PATIENCE)
        assert "internal error" not in said
        status = racers["label"].returncode
        assert status in (0, 1, 4), said
        assert racers["stop"].wait(PATIENCE) == 0
        assert server.wait(PATIENCE) == -signal.SIGTERM
        wanted[f"of-{client.pid}", LABEL if status == 0 else ""] = "stopped by request"
    assert {(row["name"], row["label"]): row["reason"] for row in rows(state)} == wanted


def test_python_labels_too(client: Client, keeper: Scopekeeper) -> None:
    server = client.server("time")
    (info,) = scopekeeper.label(client.session, label=LABEL)
    assert (info.unit, info.session, info.label) == (client.unit, client.session, LABEL)
    assert record_of(scope_of(server))["LABEL"] == LABEL
    (listed,) = scopekeeper.list_scopes(session=LABEL)
    assert (listed.unit, listed.label) == (client.unit, LABEL)
    client.server("git")
    with pytest.raises(ConflictError, match="members are not selected"):
        scopekeeper.label(session=LABEL, name="git", label="codex:2")
    for wrong in ("", "x" * 513, 7):
        with pytest.raises(UsageError, match="label"):
            scopekeeper.label(LABEL, label=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no target given"):
        scopekeeper.label(label="codex:2")
    with pytest.raises(NotFoundError, match="nobody-has-this"):
        scopekeeper.label(LABEL, "nobody-has-this", label="codex:2")
    assert scopekeeper.label(session="nobody-has-this", label="codex:2") == []
    assert [each.label for each in scopekeeper.label(owner=client.pid, label=None)] == [""]
    assert "LABEL" not in record_of(scope_of(server))
    assert keeper.call("stop", client.session).returncode == 0


def test_the_bus_labels_too(guard: Keeper, keeper: Scopekeeper) -> None:
    with allowed():
        guard.start()
        client = Client(keeper, keeper.popen(["sleep", "infinity"]).pid)
        scope = scope_of(client.server("time"))

        def call(label: str) -> dict[str, dict[str, object]]:
            words = ("1", "session", "s", client.session, label)
            done = busctl("--json=short", "call", *BUS, "Label", "a{sv}s", *words)
            assert done.returncode == 0, done.stderr
            (one,) = json.loads(done.stdout)["data"][0]
            return one  # type: ignore[no-any-return]

        assert (call(LABEL)["labelled"]["data"], record_of(scope)["LABEL"]) == (True, LABEL)
        (listed,) = json.loads(busctl("--json=short", "call", *BUS, "List").stdout)["data"][0]
        assert listed["label"]["data"] == LABEL
        refused = busctl("call", *BUS, "Label", "a{sv}s", "1", "session", "s", LABEL, "x" * 513)
        assert (refused.returncode, "the most is 512" in refused.stderr) == (1, True)
        assert call("")["label"]["data"] == ""
        assert "LABEL" not in record_of(scope)
