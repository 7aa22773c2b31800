"""``bugreport`` writes one file with all that a report needs, and nothing that is secret."""

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.machine import (
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    children_of,
    eventually,
    is_alive,
    scope_directories,
    text_of,
    trials_of,
)

from .installed import UNIT, Installed
from .manager import Units, state, systemd_run_argv

pytestmark = pytest.mark.systemd

ARGUMENT, VARIABLE, LEFT = "--token=hunter2", "correct-horse", "--key=opensesame"
PARTS = {"versions", "doctor", "ls", "history", "keeper", "journal", "log"}
WAITS = 'echo "$$" > "$1"; while :; do sleep 1000; done'


def report(keeper: Scopekeeper, path: Path, *options: str) -> dict[str, dict[str, object]]:
    """Have a report written to a path, and return it."""
    done = keeper.call("bugreport", "-o", str(path), *options)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert f"wrote {path} " in done.stdout
    found: dict[str, dict[str, object]] = json.loads(path.read_text())
    return found


@pytest.fixture
def busy(
    installed: Installed, keeper: Scopekeeper, session: str, units: Units, tmp_path: Path
) -> None:
    """Have a keeper, a member that runs, one that has ended, and one that left its scope."""
    rules = Path(os.environ["SCOPEKEEPER_CONFIG"])
    rules.mkdir()
    (rules / "config.toml").write_text('escaped = "stop"\n')
    secret = {**os.environ, "API_KEY": VARIABLE}
    unit = f"left-{session[-8:]}.scope"
    units.adopt(unit)
    left, runs = tmp_path / "left", tmp_path / "runs"
    leave = shlex.join(systemd_run_argv("--scope", "--collect", f"--unit={unit}", "sh", "-c",
                                        WAITS, "sh", str(left), LEFT))  # fmt: skip
    leaves = f"{leave} & while :; do sleep 1000; done"
    stays = ("sh", "-c", WAITS, "sh", str(runs), ARGUMENT)
    keeper.member("-s", session, "-n", "stays", "--", *stays, env=secret)
    ends = keeper.member("-s", f"{session}:over", "-n", "leaves", "--", "sh", "-c", leaves,
                         env=secret)  # fmt: skip
    pid = int(eventually(lambda: text_of(left)))
    eventually(lambda: text_of(runs))
    eventually(lambda: state(UNIT) == "active")  # the keeper watches
    assert unit in cgroup_of(pid)
    assert keeper.call("stop", "-s", f"{session}:over").returncode in (0, 6)
    ends.wait()
    eventually(lambda: installed.ends(f"{session}:over"))
    eventually(lambda: not text_of(f"/proc/{pid}/cmdline"))  # the keeper ended and logged it


@pytest.mark.usefixtures("busy")
def test_one_private_file_has_everything_and_nothing_secret(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    path.write_text("an older one, that others can read")
    path.chmod(0o644)
    logged = f"sh of {session}:over: process "

    def complete() -> dict[str, dict[str, object]]:
        found = report(keeper, path)  # journald is later than what it is sent
        return found if logged in json.dumps(found["journal"]) else {}

    found = eventually(complete, pause=0.5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == os.getuid()
    assert set(found) >= PARTS
    assert not [name for name in PARTS if "problem" in found[name]]
    assert found["versions"]["kernel"].startswith(os.uname().release)  # type: ignore[attr-defined]
    system = text_of("/etc/os-release")
    assert f'PRETTY_NAME="{found["versions"]["distribution"]}"' in system
    mounts = [line for line in text_of("/proc/self/mountinfo").splitlines() if "cgroup2" in line]
    options = found["versions"]["cgroup"]["options"]  # type: ignore[index]
    assert set(mounts[-1].split()[5].split(",")) <= set(options.split(","))
    assert found["keeper"]["runs"] is True
    checks = {each["check"] for each in found["doctor"]["checks"]}  # type: ignore[attr-defined]
    assert {"kernel", "systemd", "keeper", "trial"} <= checks
    (scope,) = [each for each in found["ls"]["scopes"] if each["session"] == session]  # type: ignore[attr-defined]
    assert [each["program"] for each in scope["members"]] == ["sh"]
    assert f"{session}:over" in [each["session"] for each in found["history"]["ends"]]  # type: ignore[attr-defined]
    for secret in (ARGUMENT, VARIABLE, LEFT, "hunter2", "opensesame"):
        assert secret not in path.read_text(), secret
    lines = json.dumps(found["journal"]["lines"])
    assert f" {socket.gethostname()} " not in lines


@pytest.mark.usefixtures("busy")
def test_a_name_is_replaced_by_the_same_one_everywhere(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    plain = report(keeper, path)
    found = report(keeper, path, "--hide-names")
    text = path.read_text()
    for name in (session, "stays", "leaves", session.replace(":", r"\\x3a")):
        assert name not in text, name
    (known,) = [s for s in plain["ls"]["scopes"] if s["session"] == session]  # type: ignore[attr-defined]
    assert known["unit"] not in text
    pid = known["members"][0]["pid"]
    (scope,) = [s for s in found["ls"]["scopes"] if s["members"][0]["pid"] == pid]  # type: ignore[attr-defined]
    hidden = scope["session"]
    assert hidden.startswith("session-")
    assert hidden.replace("-", r"\x2d") in scope["unit"]
    assert scope["unit"] in scope["cgroup"]
    over = {end["session"] for end in found["history"]["ends"] if end["session"] != "scopekeeper"}  # type: ignore[attr-defined]
    assert len(over) == 1
    assert over != {hidden}
    assert [len(found[part][name]) for part, name in (("ls", "scopes"), ("doctor", "checks"))] == [  # type: ignore[arg-type]
        len(plain[part][name]) for part, name in (("ls", "scopes"), ("doctor", "checks"))  # type: ignore[arg-type]
    ]  # fmt: skip


def test_each_part_says_its_own_problem_and_the_others_are_there(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.member("-s", session, "--", "sleep", "1000")
    rules, kept = tmp_path / "rules", tmp_path / "state"
    rules.mkdir()
    (rules / "config.toml").write_text("this is [no policy")
    kept.mkdir(mode=0o777)
    kept.chmod(0o777)
    (kept / "history.db").mkdir()
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(rules))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(kept))
    monkeypatch.setenv("PATH", str(tmp_path))
    done = keeper.call("bugreport", "-o", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (policy,) = [each for each in found["doctor"]["checks"] if each["check"] == "policy"]
    assert policy["status"] == "limit"
    assert str(rules) in policy["detail"]
    assert [each["session"] for each in found["ls"]["scopes"]] == [session]
    assert "not installed" in found["journal"]["problem"]
    for part in ("history", "journal"):
        assert len(found[part]["problem"].splitlines()) == 1
    assert "Traceback" not in done.stdout


def test_it_prints_on_request_and_writes_no_file(keeper: Scopekeeper, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    done = keeper.call("bugreport", "-o", "-", cwd=folder)
    assert json.loads(done.stdout)["version"] == 1
    assert not list(folder.iterdir())
    done = keeper.call("bugreport", cwd=folder)
    (path,) = folder.iterdir()
    assert done.stdout.startswith(f"wrote {path} ")
    assert path.name.startswith("scopekeeper-bugreport-")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "nowhere", "closed"])
def test_it_replaces_no_link_and_no_device_and_says_where_it_cannot_write(
    keeper: Scopekeeper, tmp_path: Path, kind: str
) -> None:
    path, other = tmp_path / "target", tmp_path / "other"
    other.write_text("stays")
    if kind == "link":
        path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "nowhere":
        path = tmp_path / "no" / "target"
    else:
        path = Path("/proc/no-such-file")
    began = time.monotonic()
    done = keeper.call("bugreport", "-o", str(path))
    assert done.returncode == (1 if kind in ("nowhere", "closed") else 2)
    assert time.monotonic() - began < 60
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert str(path) in done.stderr
    assert "-o" in done.stderr
    assert other.read_text() == "stays"
    assert kind != "link" or path.is_symlink()
    assert not [each for each in tmp_path.iterdir() if each not in (path, other)]


def one_with_its_trial(
    keeper: Scopekeeper, folder: Path
) -> tuple[subprocess.Popen[bytes], int] | None:
    """Return a bugreport whose doctor has just begun its trial, and the doctor's pid.

    None if the trial was over before this process had its turn to look.
    """
    asked = keeper.popen([PROGRAM, "bugreport"], start_new_session=True, cwd=folder)

    def begun() -> list[int]:
        return [each for each in children_of(asked.pid) if trials_of(each)]

    eventually(lambda: begun() or asked.poll() is not None, pause=0.001)
    found = begun()
    if found and asked.poll() is None:
        return asked, found[0]
    asked.wait(60)
    for each in folder.iterdir():
        each.unlink()
    return None


def test_an_interrupt_ends_it_and_leaves_no_file_no_process_and_no_scope(
    keeper: Scopekeeper, tmp_path: Path
) -> None:
    asked, doctor = eventually(lambda: one_with_its_trial(keeper, tmp_path), seconds=300)
    os.killpg(asked.pid, signal.SIGINT)
    assert asked.wait(30) == -signal.SIGINT
    eventually(lambda: not is_alive(doctor))
    assert eventually(lambda: not scope_directories())
    assert not list(tmp_path.iterdir())
