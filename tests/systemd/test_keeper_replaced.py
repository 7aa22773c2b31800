"""The keeper is upgraded, stopped, or finds what it cannot read, while it holds runs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    PROGRAM,
    ROOT,
    Scopekeeper,
    eventually,
    is_alive,
    signal_set,
)
from tests.terminal import Terminal

from .installed import UNIT, Installed
from .manager import manager_version, show, state, systemctl
from .test_exec import begin, logged, pid_of, stream, wait, written

pytestmark = pytest.mark.systemd

WAITING = 'until test -e "$1"; do sleep 0.05; done; echo gap; '
"""Beginning of a script that says something when a file is there."""


@pytest.fixture
def package(installed: Installed, tmp_path: Path) -> Path:
    """Have the keeper run a copy of the package, to be replaced; returns where that lies."""
    found = subprocess.run(
        [sys.executable, "-c", "import scopekeeper; print(scopekeeper.__path__[0])"],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    place = tmp_path / "package" / "scopekeeper"
    shutil.copytree(found.stdout.strip(), place)
    installed.write(f"{sys.executable} -m scopekeeper keeper", PYTHONPATH=str(place.parent))
    return place


@pytest.fixture
def terminal() -> Iterator[list[Terminal]]:
    """Give a list for terminals, which are closed afterwards."""
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        each.end()


def record(run: str) -> Path:
    """Return the file of what is known of a run."""
    return Path(os.environ["SCOPEKEEPER_STATE"], "runs", run, "run.json")


def take_away(package: Path, witness: Path) -> Path:
    """Remove a package, as an installer does it first; return where another version of it is."""
    new = package.with_name("new")
    shutil.copytree(package, new)
    text = (new / "version.py").read_text()
    assert '__version__ = "' in text
    (new / "version.py").write_text(text.replace('__version__ = "', '__version__ = "99.'))
    with (new / "__init__.py").open("a") as init:
        init.write("from scopekeeper.version import __version__ as _version\n")
        init.write(f"open({str(witness)!r}, 'w').write(_version)\n")
    shutil.rmtree(package)
    return new


def test_an_upgrade_loses_nothing_of_what_runs_before_between_and_after(
    installed: Installed, keeper: Scopekeeper, session: str, package: Path, tmp_path: Path,
    terminal: list[Terminal],
) -> None:  # fmt: skip
    over, size = tmp_path / "over", 5000
    marker, witness = tmp_path / "go", tmp_path / "version"
    writing = begin(keeper, f"{session}:stream", "--log-max", "64M", "--", *stream(over, size))
    short = begin(keeper, f"{session}:short", "--", "sh", "-c", f"{WAITING} exit 7", "sh",
                  str(marker))  # fmt: skip
    later = begin(keeper, session, "--", "sh", "-c", "echo before; cat; exit 8")
    eventually(lambda: "before" in keeper.call("logs", later).stdout)

    new = take_away(package, witness)
    marker.touch()
    ended = wait(keeper, short)  # the old keeper tells it, with nothing of itself on the disk
    assert (ended["reason"], ended["status"], ended["output"]) == ("exited", 7, "gap\n")
    new.rename(package)
    written_newly = {**json.loads(record(later).read_text()), "colour": {"of": "red"}}
    record(later).write_text(json.dumps(written_newly))
    assert not witness.exists()

    before = installed.pid
    assert systemctl("restart", UNIT).returncode == 0
    assert installed.pid not in (0, before)
    assert witness.read_text().startswith("99.")
    user = Terminal([PROGRAM, "attach", later])
    terminal.append(user)
    user.expect("before")
    user.type("still here\n")
    user.expect("still here\r\nstill here")
    user.type("\x04")
    user.expect("status 8")
    assert user.status() == 8
    assert wait(keeper, later)["status"] == 8
    known = json.loads(record(later).read_text())
    assert known["colour"] == {"of": "red"}
    assert known["ended"]["exit_status"] == 8
    over.touch()
    assert wait(keeper, writing)["status"] == 0
    assert logged(writing) == written(int(over.read_text()), size)
    for name in ("stream", "short"):
        assert len(eventually(lambda name=name: installed.ends(f"{session}:{name}"))) == 1


def test_a_record_that_cannot_be_read_is_reported_though_nothing_is_held_of_its_run(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    Path(os.environ["SCOPEKEEPER_STATE"]).mkdir(mode=0o700)  # as it is where it is ours
    broken, gone = record("0badc0de"), record("00c0ffee").parent
    broken.parent.mkdir(parents=True)
    broken.write_text('{"id": "0badc0')
    gone.write_text("no folder")
    assert wait(keeper, begin(keeper, session, "--", "sh", "-c", "exit 4"))["status"] == 4
    for run in (broken.parent.name, gone.name):
        done = keeper.call("logs", run)
        assert done.returncode == 1
        assert done.stderr.startswith(f"scopekeeper: the record of the run {run} cannot be read")
    journal = ["journalctl", *([] if ROOT else ["--user"]), "--no-pager", "-o", "cat"]
    told = subprocess.run(
        [*journal, f"_PID={installed.pid}"], capture_output=True, text=True
    ).stdout.splitlines()
    for run in (broken.parent.name, gone.name):
        assert len([line for line in told if f"run {run} cannot be read" in line]) == 1


def test_a_stop_of_the_keeper_hangs_up_on_systemd_252_and_keeps_the_terminals_from_254_on(
    installed: Installed, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    marker = tmp_path / "go"
    plain = begin(keeper, session, "--", "sh", "-c", f"{WAITING} exec cat", "sh", str(marker))
    deaf = begin(keeper, f"{session}:deaf", "--", "sh", "-c",
                 f"trap '' HUP; {WAITING} exec sleep infinity", "sh", str(marker))  # fmt: skip
    pids = pid_of(session), pid_of(f"{session}:deaf")
    eventually(lambda: signal_set(pids[1], "SigIgn") & 1)
    doctor = keeper.call("doctor").stdout
    assert systemctl("stop", UNIT).returncode == 0
    assert state(UNIT) == "inactive"
    keeps = manager_version() >= 254
    assert ("hangs up the terminals" in doctor) is not keeps
    if keeps:
        assert int(show(UNIT, "NFileDescriptorStore")) > 0
        assert is_alive(pids[0])
    else:
        eventually(lambda: not is_alive(pids[0]))
    assert is_alive(pids[1])
    marker.touch()

    done = keeper.call("wait", "--timeout", "1ms", plain)  # it starts a keeper
    assert done.returncode == 124, done.stderr
    eventually(lambda: installed.pid)
    eventually(lambda: state(UNIT) == "active")
    sent = {run: keeper.call("send", run, "hello", "--enter") for run in (plain, deaf)}
    if keeps:
        assert [done.returncode for done in sent.values()] == [0, 0]
        eventually(lambda: keeper.call("logs", plain).stdout == "gap\nhello\nhello\n")
        eventually(lambda: keeper.call("logs", deaf).stdout == "gap\nhello\n")
        assert keeper.call("stop", "-s", session).returncode == 0
        assert wait(keeper, plain)["reason"] == "stopped by request"
    else:
        assert all("takes no input any more" in done.stderr for done in sent.values())
        ends = eventually(lambda: installed.ends(session))
        assert [reason for _, reason in ends] == ["unknown"]
    assert keeper.call("stop", "-s", f"{session}:deaf").returncode == 0
    assert not is_alive(pids[1])
    assert wait(keeper, deaf)["reason"] == "stopped by request"
