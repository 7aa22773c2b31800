"""What leaves its scope is found by its environment; it is ended only where that is proved safe."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import scopekeeper
from scopekeeper import errors
from scopekeeper.lifecycle import escaped, leavers, stop_target
from tests.machine import (
    FOREVER,
    MOUNT,
    Scopekeeper,
    cgroup_of,
    children_of,
    environment_of,
    eventually,
    is_alive,
    scope_directory,
    text_of,
)

from .manager import Units, main_pid, systemd_run_argv

pytestmark = pytest.mark.systemd

SLEEP = shutil.which("sleep")


WATCHED = """
import os, sys
from scopekeeper.lifecycle import escaped
from scopekeeper.scope.model import Snapshot
sys.addaudithook(
    lambda event, given: event == "open" and str(given[0]).endswith("/environ") and print(given[0])
)
escaped.find(Snapshot(()), os.getuid())
"""
"""Prints every environment that is read to find what escaped."""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user's policy, which has escaped processes ended."""
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path / "rules"))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    path = tmp_path / "rules/config.toml"
    path.parent.mkdir()
    path.write_text('escaped = "stop"\n')
    return path


@pytest.fixture
def runaway(keeper: Scopekeeper, session: str, units: Units, tmp_path: Path) -> int:
    """Start a member whose child moves to a scope of its own, as browsers do."""
    unit = f"runaway-{session[-8:]}.scope"
    units.adopt(unit)
    leave = shlex.join(systemd_run_argv("--scope", "--collect", f"--unit={unit}", *FOREVER))
    file = tmp_path / "pid"
    script = f"{leave} & echo $! > {file}; exec sleep 1000"
    keeper.member("-s", session, "-n", "browser", "--kind", "exec", "--", "sh", "-c", script)
    pid = int(eventually(lambda: text_of(file)))
    eventually(lambda: unit in cgroup_of(pid) and text_of(f"/proc/{pid}/comm") == "sleep\n")
    return pid


def test_a_list_of_them_is_restricted_to_a_session(
    keeper: Scopekeeper, session: str, runaway: int
) -> None:
    def listed(*words: str) -> set[int]:
        done = keeper.call("ls", "--escaped", "--json", *words)
        assert done.returncode == 0, done.stderr
        return {each["pid"] for each in json.loads(done.stdout)["escaped"]}

    for words in ((), ("-s", session), ("-l", "main", "-s", session), (session,)):
        assert runaway in listed(*words), words
    assert not listed("-s", f"{session}x")
    assert runaway not in listed("-l", "cron")
    for words in (("-n", "browser"), ("--mine",), ("--state", "running"), ("--run", "x")):
        done = keeper.call("ls", "--escaped", *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_the_label_of_the_scope_that_they_left_selects_them(
    keeper: Scopekeeper, session: str, runaway: int
) -> None:
    assert keeper.call("label", session, "--as", "codex:7").returncode == 0
    for words in (("-s", "codex:7"), ("codex:7",), ("-s", session)):
        found = json.loads(keeper.call("ls", "--escaped", "--json", *words).stdout)["escaped"]
        assert [(x["pid"], x["session"], x["label"]) for x in found] == [
            (runaway, session, "codex:7")
        ]
    assert f"pid {runaway} in " in keeper.call("why", "codex:7").stdout
    done = keeper.call("stop", "codex:7", "--escaped")
    assert done.returncode == 0, done.stdout
    eventually(lambda: not is_alive(runaway))


def row(keeper: Scopekeeper, pid: int, *arguments: str) -> dict[str, object]:
    """Return what reconcile says of a process."""
    done = keeper.call("reconcile", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found = [each for each in json.loads(done.stdout)["actions"] if each.get("pid") == pid]
    assert len(found) == 1, done.stdout
    action: dict[str, object] = found[0]
    return action


def recorded(keeper: Scopekeeper, session: str, pid: int) -> list[dict[str, object]]:
    """Return what the history says of a process that had left its scope."""
    done = keeper.call("history", "-s", session, "--json")
    return [each for each in json.loads(done.stdout)["ends"] if each["pid"] == pid]


def test_it_is_shown_and_left_alone(keeper: Scopekeeper, session: str, runaway: int) -> None:
    listed = keeper.call("ls", "--escaped")
    (line,) = [line for line in listed.stdout.splitlines() if session in line]
    assert str(runaway) in line
    assert row(keeper, runaway)["outcome"] == "reported"
    assert keeper.call("stop", "-s", session).returncode == 6
    told = row(keeper, runaway)
    assert told["outcome"] == "reported"
    assert "its member is over" in str(told["evidence"])
    assert is_alive(runaway)


def test_with_the_policy_for_it_it_ends_when_its_member_is_over_and_not_before(
    keeper: Scopekeeper, session: str, policy: Path, runaway: int
) -> None:
    assert policy.exists()
    assert row(keeper, runaway)["action"] == "report"
    assert is_alive(runaway)
    keeper.call("stop", "-s", session)
    assert row(keeper, runaway, "--dry-run")["action"] == "stop"
    assert is_alive(runaway)
    assert row(keeper, runaway)["outcome"] == "terminated"
    assert not is_alive(runaway)
    (end,) = recorded(keeper, session, runaway)
    assert (end["reason"], end["member"], end["argv"]) == (
        "escaped",
        "browser",
        [SLEEP, "infinity"],
    )
    assert str(end["evidence"]).startswith(f"process {runaway} had left it, to /")
    why = keeper.call("why", session).stdout
    assert "browser" in why
    assert "was ended because it had left its scope" in why


def test_of_what_is_in_its_scope_no_environment_is_read(
    keeper: Scopekeeper, session: str, runaway: int
) -> None:
    members = [keeper.member("-s", session, "--", *FOREVER).pid for _ in range(3)]
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = {int(path.split("/")[2]) for path in done.stdout.split()}
    assert runaway in read
    assert read.isdisjoint(members)


def test_what_a_service_runs_is_never_ended_whatever_it_inherited(
    keeper: Scopekeeper, session: str, units: Units, policy: Path
) -> None:
    assert policy.exists()
    member = keeper.member("-s", session, "--", *FOREVER)
    marks = {k: v for k, v in environment_of(member.pid).items() if k.startswith("SCOPEKEEPER_")}
    name = f"unrelated-{session[-8:]}.service"
    units.run(name, *(f"--setenv={key}={value}" for key, value in marks.items()), command=FOREVER)
    keeper.call("stop", "-s", session)
    pid = main_pid(name)
    told = row(keeper, pid)
    assert (told["action"], told["outcome"]) == ("report", "reported")
    assert is_alive(pid)


def test_the_keeper_ends_it_after_its_member(
    keeper: Scopekeeper, session: str, units: Units, policy: Path, runaway: int
) -> None:
    name = "scopekeeper-keeper-test.service"
    units.run(
        name, "--property=Type=notify", f"--setenv=SCOPEKEEPER_CONFIG={policy.parent}",
        f"--setenv=SCOPEKEEPER_STATE={os.environ['SCOPEKEEPER_STATE']}",
        command=(*keeper.argv()[:1], "keeper", "--no-bus"),
    )  # fmt: skip
    keeper.call("stop", "-s", session)
    eventually(lambda: not is_alive(runaway))
    (end,) = eventually(lambda: recorded(keeper, session, runaway))
    assert end["reason"] == "escaped"


def test_without_the_bus_a_command_has_no_way_to_the_manager_but_run_has(
    keeper: Scopekeeper, session: str
) -> None:
    env = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "XDG_RUNTIME_DIR": "/y"}
    member = keeper.member("-s", session, "--no-bus", "--", *FOREVER, env=env)
    inside = environment_of(member.pid)
    assert "DBUS_SESSION_BUS_ADDRESS" not in inside
    assert "XDG_RUNTIME_DIR" not in inside
    nested = keeper.member("-s", f"{session}:2", "--", *FOREVER, env=inside | {"PATH": env["PATH"]})
    eventually(lambda: scope_directory(f"{session}:2"))
    nested.send_signal(signal.SIGTERM)


def test_stop_says_what_lives_on_and_ends_it_if_asked(
    keeper: Scopekeeper, session: str, runaway: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 6
    gone, count, line = done.stdout.splitlines()
    assert ": gone after " in gone
    assert count == "  1 process that had left it lives on:"
    assert line.startswith(f"  pid {runaway} in {cgroup_of(runaway)}: {SLEEP} infinity; ")
    remedy = f"scopekeeper stop -s {session} --escaped"
    assert line.endswith(f"; {remedy} ends it")
    assert is_alive(runaway)
    (end,) = json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    assert f"what had left it lives on: sleep (pid {runaway})" in end["evidence"]
    why = keeper.call("why", session).stdout
    assert f"sleep (pid {runaway})" in why
    assert f"It had left its scope and lives on: pid {runaway} in " in why
    for words in (["-s", session], [session]):  # the scope is gone, this is not
        again = keeper.call("stop", *words)
        assert again.returncode == 6, again.stdout + again.stderr
        assert f"pid {runaway} in " in again.stdout
        assert again.stderr == ""
    again = keeper.call(*shlex.split(remedy)[1:])
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.endswith(f"{SLEEP} infinity; terminated\n")
    assert not is_alive(runaway)
    (end,) = recorded(keeper, session, runaway)
    assert end["reason"] == "stopped by request"
    assert "asked for by " in str(end["evidence"])
    assert keeper.call("stop", session).returncode == 4


def test_stop_ends_it_together_with_its_member(
    keeper: Scopekeeper, session: str, runaway: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    other = keeper.member("-s", f"{session}:other", "--", *FOREVER)
    done = keeper.call("stop", "-s", session, "--escaped", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (stopped,) = json.loads(done.stdout)["stopped"]
    assert stopped["escaped"] == []
    (ended,) = stopped["ended_escaped"]
    assert (ended["pid"], ended["outcome"]) == (runaway, "terminated")
    assert not is_alive(runaway)
    assert is_alive(other.pid)
    (end,) = json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    assert f"what had left it was ended too: sleep (pid {runaway})" in end["evidence"]
    assert "lives on" not in end["evidence"]


def test_a_child_without_the_marker_is_named_and_never_ended(
    keeper: Scopekeeper, session: str, units: Units, tmp_path: Path
) -> None:
    """As the shell of `sudo -i`, whose environment cannot be read."""
    unit = f"bare-{session[-8:]}.scope"
    units.adopt(unit)
    leave = shlex.join(systemd_run_argv("--scope", "--collect", f"--unit={unit}", *FOREVER))
    kept = " ".join(f'{name}="${name}"' for name in ("PATH", "HOME", "XDG_RUNTIME_DIR"))
    script = f"env -i {kept} {leave} & echo $! > {tmp_path}/pid; exec sleep 1000"
    keeper.member("-s", session, "--", "sh", "-c", script)
    pid = int(eventually(lambda: text_of(tmp_path / "pid")))
    eventually(lambda: unit in cgroup_of(pid) and text_of(f"/proc/{pid}/comm") == "sleep\n")
    done = keeper.call("stop", "-s", session, "--escaped", "--json")
    assert done.returncode == 6
    (stopped,) = json.loads(done.stdout)["stopped"]
    (left,) = stopped["escaped"]
    assert (left["pid"], left["uid"], left["command"]) == (pid, os.getuid(), f"{SLEEP} infinity")
    assert "only its parent" in left["why_not"]
    assert unit in left["cgroup"]
    assert is_alive(pid)


FOLLOWER = """
import os, time
parent = os.getppid()
while os.getppid() == parent:
    time.sleep(0.1)
"""


def test_what_ends_with_its_parent_is_not_taken_for_left(
    keeper: Scopekeeper, session: str, units: Units, tmp_path: Path
) -> None:
    unit = f"brief-{session[-8:]}.scope"
    units.adopt(unit)
    follower = (sys.executable, "-c", FOLLOWER)
    leave = shlex.join(systemd_run_argv("--scope", "--collect", f"--unit={unit}", *follower))
    member = keeper.member("-s", session, "--", "sh", "-c", f"{leave} & exec sleep 1000")
    eventually(lambda: any(unit in cgroup_of(pid) for pid in children_of(member.pid)))
    assert keeper.call("stop", "-s", session).returncode == 0


def test_the_python_api_raises_for_it(
    keeper: Scopekeeper, session: str, units: Units, tmp_path: Path
) -> None:
    assert keeper
    unit = f"api-{session[-8:]}.scope"
    units.adopt(unit)
    leave = shlex.join(systemd_run_argv("--scope", "--collect", f"--unit={unit}", *FOREVER))
    script = f"{leave} & echo $! > {tmp_path}/pid; exec sleep 1000"
    cohort = scopekeeper.Cohort(session)
    cohort.spawn(["sh", "-c", script])
    pid = int(eventually(lambda: text_of(tmp_path / "pid")))
    eventually(lambda: unit in cgroup_of(pid))
    with pytest.raises(errors.RemainsError, match=f"pid {pid} .* had left"):
        cohort.stop()


def test_stop_leaves_alone_what_left_a_member_that_lives(
    keeper: Scopekeeper, session: str, runaway: int
) -> None:
    """Of another scope of that name, as one that came while the first was stopped."""
    scope = scope_directory(session)
    target = stop_target.Target(scope, scope.removeprefix(MOUNT))
    left = [each for each in escaped.find_all(os.getuid()) if each.pid == runaway]
    result = stop_target.Result(target, "terminated", escaped=tuple(left))
    leavers.end([result], os.getuid())
    assert is_alive(runaway)
    assert [each.pid for each in result.escaped] == [runaway]
    assert keeper.call("stop", "-s", session, "--escaped").returncode == 0
    assert not is_alive(runaway)


@pytest.mark.root
@pytest.mark.parametrize("program", [("su", "-"), ("runuser", "-l")])
@pytest.mark.parametrize("user", ["other", "root"])
def test_a_login_that_a_member_opens_is_named_with_what_ends_all_of_it(
    keeper: Scopekeeper, session: str, program: tuple[str, ...], user: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    for folder in (tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    inner = f"setsid sleep 1000 & echo $! > {tmp_path}/pid; exec sleep 1001"
    login = shlex.join([*program, user, "-c", inner])
    keeper.member("-s", session, "--kind", "exec", "--", "sh", "-c", f"{login} & exec sleep 1002")
    pid = int(eventually(lambda: text_of(tmp_path / "pid")))
    scope = cgroup_of(pid)
    assert "/session-" in scope
    number = scope.rpartition("/session-")[2].removesuffix(".scope")
    done = keeper.call("stop", "-s", session, "--escaped")
    assert done.returncode == 6
    remedy = f"loginctl terminate-session {number}"
    assert f"it opened login {number}: {remedy}" in done.stdout
    assert is_alive(pid)
    listed = json.loads(keeper.call("ls", "--escaped", "--json").stdout)["escaped"]
    assert [each["cgroup"] for each in listed if each["session"] == session] == [scope]
    subprocess.run(shlex.split(remedy), check=True)
    eventually(lambda: not is_alive(pid))
    eventually(lambda: session not in keeper.call("ls", "--escaped").stdout)
    assert keeper.call("stop", "-s", session, "--escaped").returncode in (0, 3)
