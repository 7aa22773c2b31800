"""Every end has a row, also of what nobody saw: launches and stops leave word before they act."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    ROOT,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    rounds,
    scope_directories,
    state_of,
)

from .guard import Keeper
from .manager import Units, systemctl
from .test_history import rows

pytestmark = pytest.mark.systemd

RUNTIME = Path("/run/scopekeeper" if ROOT else f"/run/user/{os.getuid()}/scopekeeper")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a state folder of the test's own, which launches and all others use."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def lines(state: Path) -> Path:
    """Give the path of the file that launches with this state leave their lines in."""
    escaped = re.sub(r"[^A-Za-z0-9:_.]", lambda found: f"\\x{ord(found[0]):02x}", str(state))
    return RUNTIME / f"launches-{escaped[-200:]}"


def history(session: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [PROGRAM, "history", "-s", session, "--limit", "1000", "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["ends"]
    return found


def test_each_short_command_beside_a_keeper_is_told(
    keeper: Scopekeeper, guard: Keeper, session: str
) -> None:
    guard.start()
    number = 0
    for _ in rounds(20, least=3, seconds=1):
        racers = [
            keeper.start("-s", f"{session}:{at % 3}", "-n", f"it{at}", "--", "true")
            for at in range(number, number + 4)
        ]
        assert [racer.wait(60) for racer in racers] == [0] * 4
        number += 4
    wanted = {f"it{at}" for at in range(number)}
    # read with SQLite itself: nothing but the keeper looks
    eventually(lambda: {str(row["name"]) for row in rows(guard.state)} >= wanted)
    assert len(rows(guard.state)) == number


def test_why_waits_for_what_a_keeper_is_about_to_tell(
    keeper: Scopekeeper, guard: Keeper, session: str
) -> None:
    guard.start()
    for number, script in enumerate(("exit 3", "sleep 0.2; exit 4", "exit 5")):
        keeper.run("-s", f"{session}:{number}", "-n", "it", "--", "sh", "-c", script)
        told = keeper.call("why", f"{session}:{number}").stdout
        assert "Nothing is known" not in told
        assert told.startswith("20") or "the keeper is finding out" in told, told


def test_why_leaves_to_the_keeper_what_that_is_finding_out(
    keeper: Scopekeeper, guard: Keeper, session: str
) -> None:
    """An end that the manager brings about is told after seconds, in which the owner may end."""
    guard.start()
    member = keeper.member("-s", session, "-n", "it", "--", *FOREVER)
    scope = os.path.basename(os.path.dirname(directory_of(member.pid)))
    assert systemctl("stop", scope).returncode == 0
    told = keeper.call("why", session).stdout
    assert "unknown" not in told
    assert "it (m-it." in told
    (row,) = eventually(lambda: rows(guard.state))
    assert row["reason"] == "signalled"
    assert "SIGTERM" in keeper.call("why", session).stdout


def test_what_ended_with_its_service_without_a_keeper_is_told_with_that(
    keeper: Scopekeeper, units: Units, session: str, state: Path
) -> None:
    unit = "scopekeeper-test-gateway.service"
    units.write(
        unit,
        f"""\
[Service]
Environment=PATH={os.environ["PATH"]} SCOPEKEEPER_STATE={state}
ExecStart=sh -c '{PROGRAM} run -s {session} -n it -- sleep infinity & wait'
""",
    )
    assert systemctl("start", unit).returncode == 0
    eventually(lambda: keeper.scopes("-s", session))
    assert systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", unit).returncode == 0
    eventually(lambda: not scope_directories())
    (end,) = history(session)
    assert (end["reason"], end["seen"]) == ("unknown", False)
    assert (
        end["evidence"]
        == f"it ended before anyone looked, and so did its owner: {unit} has stopped"
    )


def test_a_short_command_without_a_keeper_is_told(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    assert keeper.run("-s", session, "-n", "brief", "--", "true").returncode == 0
    eventually(lambda: not scope_directories())
    (end,) = history(session)
    assert (end["member"], end["reason"], end["seen"]) == ("brief", "unknown", False)
    assert end["evidence"] == "it ended before anyone looked"
    assert "brief" in keeper.call("why", session).stdout
    assert history(session) == [end], "it is told once"
    assert state.is_dir()


def test_a_member_that_another_of_its_name_tidied_away_is_told(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    keeper.member("-s", session, "-n", "stays", "--", *FOREVER)
    for _ in range(2):
        assert keeper.run("-s", session, "-n", "again", "--", "true").returncode == 0
    assert keeper.call("reconcile").returncode == 0
    assert [end["member"] for end in history(session)] == ["again", "again"]
    assert state.is_dir()


AVENGER = """
trap 'while ! read -r stopper < "$1"; do :; done; kill -KILL "$stopper"; exit' TERM
echo ready
while :; do read -r line; done
"""


@pytest.mark.parametrize("what", ["-s", "-n"])
def test_a_stop_that_is_killed_after_its_signals_has_told(
    keeper: Scopekeeper, session: str, state: Path, tmp_path: Path, what: str
) -> None:
    note = tmp_path / "stopper"
    member = keeper.start(
        "-s", session, "-n", "it", "--", "sh", "-c", AVENGER, "sh", str(note),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert member.stdout.readline() == b"ready\n"
    words = [] if what == "-s" else ["-n", "it"]
    stopper = keeper.popen([PROGRAM, "stop", "-s", session, *words, "--reason", "over"])
    note.write_text(f"{stopper.pid}\n")
    assert stopper.wait(60) == -signal.SIGKILL
    assert keeper.call("reconcile").returncode == 0
    eventually(lambda: not scope_directories())
    (end,) = history(session)
    assert end["reason"] == "stopped by request"
    assert "over" in end["evidence"]
    assert end["stopper"]["pid"] == os.getpid()
    assert state.is_dir()


def test_the_file_is_the_users_alone_whatever_the_umask(
    keeper: Scopekeeper, session: str, lines: Path
) -> None:
    for umask in (0, 0o777, 0o077, 0o022):
        lines.unlink(missing_ok=True)
        for name in ("first", "second"):
            done = keeper.run("-s", session, "-n", name, "--", "true", umask=umask)
            assert done.returncode == 0
        assert lines.stat().st_mode & 0o777 == 0o600
        text = lines.read_text()
        assert "NAME=first" in text
        assert "NAME=second" in text


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "garbage"])
def test_what_else_stands_there_hurts_no_launch_and_no_look(
    keeper: Scopekeeper, session: str, lines: Path, tmp_path: Path, kind: str
) -> None:
    lines.parent.mkdir(exist_ok=True)
    target = tmp_path / "target"
    target.write_text("mine\n")
    if kind == "fifo":
        os.mkfifo(lines)
    elif kind == "link":
        lines.symlink_to(target)
    elif kind == "folder":
        lines.mkdir()
    else:
        lines.write_bytes(b"V=1\0NAME=x\0PID=" + b"9" * 5000 + b"\0START=1\n\0\0\n\xff\n" * 50)
    try:
        member = keeper.member("-s", session, "--", *FOREVER)
        for command in (["ls"], ["history"], ["reconcile"], ["stop", "-s", session]):
            done = keeper.call(*command, timeout=300)
            assert done.returncode == 0, done.stderr
            assert len(done.stderr.splitlines()) <= 1
        assert member.wait(60) == -signal.SIGTERM
        assert target.read_text() == "mine\n"
    finally:
        lines.rmdir() if kind == "folder" else lines.unlink(missing_ok=True)


def test_lines_of_what_lives_stay_and_those_of_what_is_over_go(
    keeper: Scopekeeper, session: str, lines: Path
) -> None:
    member = keeper.member("-s", session, "-n", "stays", "--", *FOREVER)
    for at in range(3):
        assert keeper.run("-s", session, "-n", f"it{at}", "--", "true").returncode == 0
    earlier = lines.with_name(lines.name + ".old")
    assert keeper.call("reconcile").returncode == 0
    assert not lines.exists()
    os.utime(earlier, (1, 1))  # as if that were long ago
    assert keeper.call("reconcile").returncode == 0
    assert not earlier.exists()
    assert lines.read_text().count("\0NAME=") == 1
    assert "NAME=stays" in lines.read_text()
    assert is_alive(member.pid)
    assert state_of(member.pid)
    assert directory_of(member.pid)
