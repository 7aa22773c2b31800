"""The rules of a lane hold: at the launch, and when its gateway has ended."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    processes,
    record_of,
    rewrite_record,
    scope_directories,
    scope_directory,
    wait_for_command,
)

from .manager import Units, main_pid, systemctl

pytestmark = pytest.mark.systemd

DAY = 86_400_000_000


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give a hand that writes the user's policy."""
    folder = tmp_path / "rules"
    folder.mkdir()
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(folder))

    def write(text: str) -> Path:
        (folder / "config.toml").write_text(text)
        return folder / "config.toml"

    return write


def orphan(keeper: Scopekeeper, session: str, *options: str) -> int:
    """Start a member whose owner then ends; return its pid."""
    with subprocess.Popen(FOREVER) as owner:
        member = keeper.member("-s", session, "--owner", str(owner.pid), *options, "--", *FOREVER)
        owner.kill()
    return member.pid


def told(done: subprocess.CompletedProcess[str], session: str) -> str:
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if session in line]
    return line


def test_a_launch_takes_what_its_lane_says_and_is_not_told_of_it(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules('[lanes.cron]\nttl = "1h"\ngrace = "7s"\nlifetime = "session"\n')
    keeper.member("-s", session, "-l", "cron:1", "-n", "a", "--", *FOREVER)
    record = record_of(scope_directory(session))
    assert (record["TTL"], record["GRACE"]) == ("3600000000", "7000000")
    assert record["LIFETIME"] == "session"
    rules('[lanes.cron]\nttl = "2h"\nlifetime = "session"\n')
    done = keeper.run("-s", session, "-l", "cron:1", "-n", "b", "--", "true")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_file_is_told_and_does_not_keep_a_server_from_starting(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    path = rules('[lanes.main]\nttl = "1h"\n')
    assert keeper.run("-s", session, "--", "true").returncode == 0
    rules('[lanes.main]\nttl = "never"\n')
    told = path.with_name("stderr")
    with told.open("wb") as stderr:
        keeper.member("-s", session, "--", *FOREVER, stderr=stderr)
    assert record_of(scope_directory(session))["TTL"] == "3600000000", "the last good rules"
    assert f"warning: {path}:2: ttl: 'never'" in told.read_text()
    done = keeper.call("reconcile")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{path}:2" in done.stderr
    keeper.call("stop", "-s", session)


def test_the_newest_of_a_name_wins_where_its_lane_says_so(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules("[lanes.default]\nreplace = true\n")
    first = keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    other = keeper.member("-s", session, "-n", "git", "--", *FOREVER)
    keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    assert first.wait(PATIENCE) != 0
    assert other.poll() is None


def test_the_next_run_ends_the_one_before_it(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules("[lanes.cron]\nsupersede = true\n")
    cron = ("-s", session, "-l", "cron")
    first = keeper.member(*cron, "--session-id", "1", "-n", "a", "--", *FOREVER)
    again = keeper.member(*cron, "--session-id", "1", "-n", "b", "--", *FOREVER)
    kept = keeper.member(
        *cron, "--session-id", "1", "-n", "c", "--lifetime", "session", "--run", "x", "--", *FOREVER
    )
    second = keeper.member(*cron, "--session-id", "2", "-n", "a", "--", *FOREVER)
    assert first.wait(PATIENCE) != 0
    assert again.wait(PATIENCE) != 0
    assert kept.poll() is None, "a lifetime that was given wins"
    assert second.poll() is None


def test_a_full_lane_refuses_another_scope_but_not_another_member(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules("[lanes.sub]\nmax_scopes = 2\n")
    for number in (1, 2):
        keeper.member("-s", f"{session}:{number}", "-l", "sub:x", "--", *FOREVER)
    assert keeper.run("-s", f"{session}:1", "-l", "sub:x", "--", "true").returncode == 0
    done = keeper.run("-s", f"{session}:3", "-l", "sub:y", "--", "true")
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert "max_scopes is 2" in done.stderr
    assert keeper.run("-s", f"{session}:3", "-l", "main", "--", "true").returncode == 0


def test_launches_at_once_do_not_overfill_a_lane(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules("[lanes.sub]\nmax_scopes = 3\n")
    started = [
        keeper.start("-s", f"{session}:{n}", "-l", "sub", "--", *FOREVER, stderr=subprocess.DEVNULL)
        for n in range(10)
    ]
    eventually(lambda: len([s for s in started if s.poll() is not None]) == 7)
    assert [s.returncode for s in started if s.poll() is not None] == [125] * 7


def test_a_full_lane_makes_room_by_ending_what_nobody_owns(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules('[lanes.sub]\nmax_scopes = 2\nwhen_full = "stop-orphan"\norphan_grace = "infinity"\n')
    left_over = orphan(keeper, f"{session}:1", "-l", "sub")
    owned = keeper.member("-s", f"{session}:2", "-l", "sub", "--", *FOREVER)
    keeper.member("-s", f"{session}:3", "-l", "sub", "--", *FOREVER)
    assert not is_alive(left_over)
    assert owned.poll() is None
    assert keeper.run("-s", f"{session}:4", "-l", "sub", "--", "true").returncode == 125


def test_an_orphan_is_kept_for_its_lanes_grace_unless_it_is_adopted(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules('[lanes.main]\norphan_grace = "1h"\n')
    pid = orphan(keeper, session)
    scope = scope_directory(session)
    leaf = os.path.join(scope, next(name for name in os.listdir(scope) if name.startswith("m-")))
    assert "ends in 1h" in told(keeper.call("reconcile", "--dry-run"), session)
    assert "ORPHANED" not in record_of(leaf), "a dry run changes nothing"
    assert "orphan" in told(keeper.call("reconcile"), session)
    since = int(record_of(leaf)["ORPHANED"])
    told(keeper.call("reconcile"), session)
    assert int(record_of(leaf)["ORPHANED"]) == since, "time counts from the first look"
    done = keeper.call("adopt", "-s", session, "--owner", str(os.getpid()))
    assert done.returncode == 0, done.stderr
    assert "ORPHANED" not in record_of(leaf)
    assert "owned" in told(keeper.call("reconcile"), session)
    assert is_alive(pid)
    rules('[lanes.main]\norphan_grace = "1ms"\n')
    rewrite_record(leaf, OWNER_PID="4194000", ORPHANED=str(since))
    told(keeper.call("reconcile"), session)
    assert not is_alive(pid)


def test_what_outlives_its_gateway_ends_a_day_after_it(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    pid = orphan(keeper, session, "--kind", "pty")
    assert "ends in 1d" in told(keeper.call("reconcile"), session)
    scope = scope_directory(session)
    leaf = os.path.join(scope, next(name for name in os.listdir(scope) if name.startswith("m-")))
    assert int(record_of(leaf)["ORPHANED"])
    assert is_alive(pid)
    rules('[lanes.default]\nsession_grace = "1ms"\n')  # the machine is not up for a day
    told(keeper.call("reconcile"), session)
    assert not is_alive(pid)


def test_what_has_an_owner_is_not_adopted_by_another(keeper: Scopekeeper, session: str) -> None:
    keeper.member("-s", session, "--owner", str(os.getpid()), "--", *FOREVER)
    done = keeper.call("adopt", "-s", session, "--owner", "1")
    assert done.returncode == 1
    assert f"its owner pid {os.getpid()} lives" in done.stdout
    assert keeper.call("adopt", "-s", session, "--owner", "1", "--force").returncode == 0
    assert keeper.call("adopt", "-s", f"{session}:none").returncode == 4
    assert keeper.call("adopt").returncode == 2


def test_what_is_being_stopped_is_not_adopted(keeper: Scopekeeper, session: str) -> None:
    pid = orphan(keeper, session)
    scope = scope_directory(session)
    rewrite_record(scope, STATE="stopping")
    done = keeper.call("adopt", "-s", session, "--owner", str(os.getpid()))
    assert done.returncode == 1, done.stdout
    assert "it is being stopped" in done.stdout
    assert keeper.call("reconcile").returncode == 0
    assert not is_alive(pid)


def test_stragglers_end_a_while_after_their_command_where_the_lane_says_so(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    script = "setsid sleep 1000 & exec sleep 0.2"
    launch = ("-s", session, "-n", "x", "--kind", "exec", "--", "sh", "-c", script)
    keeper.start(*launch).wait(PATIENCE)
    scope = scope_directory(session)
    assert "leaderless" in told(keeper.call("reconcile"), session)
    (straggler,) = processes(scope)
    listed = keeper.call("ls", "--members", "-s", session).stdout
    assert f"    x  pid {straggler}  leaderless  1 process" in listed
    assert listed.endswith("  sleep 1000\n")
    ((member,),) = (each["members"] for each in keeper.scopes("-s", session))
    assert (member["pids"], member["argv"]) == ([straggler], None)
    left = f"its command has ended and left sleep 1000 (pid {straggler})"
    assert f"; {left}; leaderless.\n" in keeper.call("why", session).stdout
    rules('[lanes.default]\non_leader_exit = "stop"\nleader_grace = "1h"\n')
    assert "ends in 1h" in told(keeper.call("reconcile"), session)
    assert is_alive(straggler)
    rules('[lanes.default.mcp]\nleader_grace = "0s"\n')
    assert "stay" in told(keeper.call("reconcile"), session)
    rules('[lanes.default.exec]\non_leader_exit = "stop"\nleader_grace = "0s"\n')
    told(keeper.call("reconcile"), session)
    assert not is_alive(straggler)


def test_what_does_nothing_ends_and_what_works_does_not(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules('[lanes.default]\nidle = "1s"\n')
    idle = keeper.member("-s", f"{session}:idle", "--", *FOREVER)
    busy = keeper.member("-s", f"{session}:busy", "--", "sh", "-c", "while :; do :; done")

    def ended() -> bool:
        assert keeper.call("reconcile").returncode == 0
        return idle.poll() is not None

    eventually(ended, pause=0.6)
    assert busy.poll() is None


def test_one_idle_member_ends_where_its_lane_counts_each(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    """As a server that a living client has forgotten."""
    rules('[lanes.default]\nidle = "1s"\nidle_of = "member"\n')
    idle = keeper.member("-s", session, "-n", "idle", "--", *FOREVER)
    busy = keeper.member("-s", session, "-n", "busy", "--", "sh", "-c", "while :; do :; done")
    assert keeper.call("reconcile").returncode == 0
    time.sleep(0.1)  # there has to be some time to show
    text = keeper.call("ls", "-s", session, "--members").stdout
    rows = {line.split()[0]: line for line in text.splitlines() if " pid " in line}
    assert re.search(r" old, idle \S+  sleep infinity$", rows["idle"]), text
    assert ", idle 0" in rows["busy"], text

    def ended() -> bool:
        assert keeper.call("reconcile").returncode == 0
        return idle.poll() is not None

    eventually(ended, pause=0.6)
    assert busy.poll() is None


def test_a_rule_to_replace_wants_a_name_that_is_one_servers(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    rules("[lanes.default]\nreplace = true\n")
    owned = ("--owner", str(os.getpid()))
    unnamed = [keeper.start(*owned, "--", *FOREVER, stderr=subprocess.PIPE) for _ in range(2)]
    for each in unnamed:
        wait_for_command(each)
        assert each.stderr is not None
        assert "replace = true has no effect" in each.stderr.readline().decode()
    named = [keeper.member(*owned, "-n", "it", "--", *FOREVER) for _ in range(2)]
    assert named[0].wait(PATIENCE) == -signal.SIGTERM
    assert all(each.poll() is None for each in (*unnamed, named[1]))


def test_a_gateway_started_again_adopts_what_outlived_it(
    keeper: Scopekeeper, units: Units, session: str
) -> None:
    name = f"gateway-{session[-8:]}.service"
    launch = " ".join(keeper.argv("-s", session, "--lifetime", "session", "--", *FOREVER))
    units.run(name, "--property=KillMode=process",
              command=("sh", "-c", f"{launch} & exec sleep 1000"))  # fmt: skip
    eventually(lambda: scope_directory(session))
    first = main_pid(name)
    systemctl("stop", name)
    eventually(lambda: not is_alive(first))
    units.run(name, command=("sh", "-c", f"scopekeeper adopt -s {session}; exec sleep 1000"))
    (scope,) = scope_directories()
    eventually(lambda: "owned" in told(keeper.call("reconcile"), session))
    assert record_of(scope)["OWNER_UNIT"] == name


def set_clock(directory: str, key: str, ahead: int) -> None:
    """Have a record say what it would if the clock had been so far ahead when it was written."""
    rewrite_record(directory, **{key: str(time.time_ns() // 1000 + ahead)})


def test_the_later_run_is_the_later_one_whatever_the_clock_said(
    keeper: Scopekeeper, session: str, rules: Callable[[str], Path]
) -> None:
    cron = ("-s", session, "-l", "cron", "--session-id")
    first = keeper.member(*cron, "1", "--", *FOREVER)
    set_clock(os.path.dirname(directory_of(first.pid)), "CREATED", DAY)
    second = keeper.member(*cron, "2", "--", *FOREVER)
    rules("[lanes.cron]\nsupersede = true\n")
    assert keeper.call("reconcile").returncode == 0
    assert first.wait(PATIENCE) == -signal.SIGTERM
    assert second.poll() is None


def test_a_member_is_replaced_whatever_the_clock_said(keeper: Scopekeeper, session: str) -> None:
    words = ("-s", session, "-n", "it", "--replace", "--", *FOREVER)
    first = keeper.member(*words)
    leaf = directory_of(first.pid)
    set_clock(leaf, "STARTED", -DAY)
    assert "for 1d" not in keeper.call("why", session).stdout
    set_clock(leaf, "STARTED", DAY)
    second = keeper.member(*words)
    assert first.wait(PATIENCE) == -signal.SIGTERM
    assert second.poll() is None
