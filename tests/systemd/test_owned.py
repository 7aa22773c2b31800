"""What was handed over is removed when its last user is gone, and not before."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    ROOT,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    is_populated,
    leaves,
    processes,
    scope_directory,
)

from .manager import systemd_run_argv

pytestmark = pytest.mark.systemd


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the claims of a test in a folder of its own."""
    folder = tmp_path / "state" / "scopekeeper"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder))
    return folder


@pytest.fixture
def turn(tmp_path: Path) -> Path:
    """Make what a gateway makes for a turn: a folder with a configuration and a link out of it."""
    folder = tmp_path / "room" / "turn"
    folder.mkdir(parents=True)
    (folder / "mcp.json").write_text("{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    (folder / "link").symlink_to(tmp_path / "outside")
    return folder


@pytest.fixture(autouse=True)
def nothing_else_is_touched(tmp_path: Path, turn: Path) -> Iterator[None]:
    yield
    assert (tmp_path / "outside" / "kept").exists()
    assert set(os.listdir(turn.parent)) <= {"turn"}


def claims(state: Path) -> list[Path]:
    return sorted(state.glob("owned/*.claim"))


def owned(keeper: Scopekeeper) -> list[dict[str, object]]:
    """Return what ``own --list`` says."""
    done = keeper.call("own", "--list", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["owned"]
    return found


def reconcile(keeper: Scopekeeper) -> list[dict[str, object]]:
    """Reconcile and return what became of owned paths."""
    done = keeper.call("reconcile", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["owned"]
    return found


def test_it_is_removed_after_its_member_and_not_before(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    sibling = keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    member = keeper.member("-s", session, "-n", "it", "--own", str(turn), "--", *FOREVER)
    assert reconcile(keeper) == []
    assert [each["state"] for each in owned(keeper)] == ["held"]
    assert (turn / "mcp.json").exists()
    member.kill()
    member.wait()
    (done,) = reconcile(keeper)
    assert (done["path"], done["outcome"]) == (str(turn), "removed")
    assert not turn.exists()
    assert claims(state) == []
    assert is_alive(sibling.pid)
    assert reconcile(keeper) == []


def test_it_stays_for_the_whole_scope_where_that_is_asked_for(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    sibling = keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    member = keeper.member("-s", session, "--own-scope", "--own", str(turn), "--", *FOREVER)
    member.kill()
    member.wait()
    assert reconcile(keeper) == []
    assert turn.exists()
    sibling.kill()
    sibling.wait()
    assert [done["outcome"] for done in reconcile(keeper)] == ["removed"]
    assert not turn.exists()


def test_a_scope_of_the_same_name_later_does_not_hold_it(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    member = keeper.member("-s", session, "--own-scope", "--own", str(turn), "--", *FOREVER)
    member.kill()
    member.wait()
    eventually(lambda: not scope_directory(session))
    again = keeper.member("-s", session, "--", *FOREVER)
    assert [done["outcome"] for done in reconcile(keeper)] == ["removed"]
    assert is_alive(again.pid)


def test_it_is_claimed_and_bound_before_the_command_runs(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    script = 'cat "$SCOPEKEEPER_STATE"/owned/*.claim; cat "$0"/mcp.json'
    done = keeper.run("-s", session, "--own", str(turn), "--", "sh", "-c", script, str(turn))
    assert done.returncode == 0, done.stderr
    assert "HOLDER=member\n" in done.stdout
    assert f"PATH={turn}\n" in done.stdout
    assert done.stdout.endswith("{}")


def test_helpers_that_stay_behind_keep_it(keeper: Scopekeeper, session: str, turn: Path) -> None:
    script = 'setsid sh -c "sleep infinity; : $0" & :'
    leader = keeper.start("-s", session, "--own", str(turn), "--", "sh", "-c", script, str(turn))
    assert leader.wait() == 0
    leaf = f"{scope_directory(session)}/{leaves(scope_directory(session))[0]}"
    assert is_populated(leaf)
    assert reconcile(keeper) == []
    assert turn.exists()
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0
    assert f"{turn}: removed" in done.stdout
    assert not turn.exists()


def test_a_process_that_left_its_cgroup_keeps_it(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    leave = systemd_run_argv("--scope", "--", *FOREVER)
    member = keeper.member("-s", session, "--own", str(turn), "--", *leave)
    eventually(lambda: cgroup_of(member.pid).rpartition("/")[2].startswith("run-"))
    eventually(lambda: not scope_directory(session))
    assert reconcile(keeper) == []
    assert str(member.pid) in str(owned(keeper)[0]["evidence"])
    assert turn.exists()
    member.kill()
    member.wait()
    assert [done["outcome"] for done in reconcile(keeper)] == ["removed"]


def test_what_a_killed_gateway_left_goes_with_its_processes(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    launch = " ".join(keeper.argv("-s", session, "--own", str(turn), "--", *FOREVER))
    gateway = keeper.popen(systemd_run_argv("--scope", "--", "sh", "-c", f"{launch} & wait"))
    eventually(lambda: scope_directory(session) and processes(scope_directory(session)))
    eventually(lambda: [each["holder"] for each in owned(keeper)] == ["member"])
    gateway.kill()
    gateway.wait()
    dry = keeper.call("reconcile", "--dry-run")
    assert str(turn) not in dry.stdout, "its user still lives"
    assert [done["outcome"] for done in reconcile(keeper)] == ["removed"]
    assert not turn.exists()


def test_stop_of_another_session_leaves_it_to_reconcile(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    member = keeper.member("-s", session, "--own", str(turn), "--", *FOREVER)
    other = keeper.member("-s", session + "x", "--", *FOREVER)
    member.kill()
    member.wait()
    assert keeper.call("stop", "-s", session + "x").returncode == 0
    assert other.wait() == -signal.SIGTERM
    assert turn.exists()
    dry = keeper.call("reconcile", "--dry-run")
    assert f"{turn}: would be removed" in dry.stdout
    assert turn.exists()
    reconcile(keeper)
    assert not turn.exists()


def test_of_two_members_that_have_it_the_last_one_counts(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    one = keeper.member("-s", session, "-n", "one", "--own", str(turn), "--", *FOREVER)
    two = keeper.member("-s", session, "-n", "two", "--own", f"{turn}/", "--", *FOREVER)
    assert len(claims(state)) == 2
    for member in (one, two):
        assert turn.exists()
        member.kill()
        member.wait()
        reconcile(keeper)
    assert not turn.exists()
    assert claims(state) == []


def test_a_replaced_member_leaves_it_to_its_successor(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    words = ("-s", session, "-n", "it", "--replace", "--own", str(turn), "--", *FOREVER)
    keeper.member(*words)
    second = keeper.member(*words)
    reconcile(keeper)
    assert turn.exists()
    second.kill()
    second.wait()
    reconcile(keeper)
    assert not turn.exists()


def test_after_a_reboot_it_is_removed(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    keeper.member("-s", session, "--own", str(turn), "--", *FOREVER)
    (claim,) = claims(state)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    claim.write_text(claim.read_text().replace(boot, "0" * 8 + boot[8:]))
    (done,) = reconcile(keeper)
    assert done["outcome"] == "removed"
    assert "started again" in str(done["evidence"])
    assert not turn.exists()


@pytest.mark.parametrize(
    "path", ["turn", "/", "/tmp", "{home}", "{turn}/../turn", "{turn}/link", "{turn}/none"]
)
def test_what_may_not_be_owned_is_refused_and_nothing_is_started(
    keeper: Scopekeeper, session: str, turn: Path, state: Path, path: str
) -> None:
    path = path.format(home=Path.home(), turn=turn)
    done = keeper.run("-s", session, "--own", str(turn), "--own", path, "--", "touch", "ran",
                      cwd=turn.parent)  # fmt: skip
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert "cannot be owned" in line
    assert not (turn.parent / "ran").exists()
    assert claims(state) == []
    assert turn.exists()


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("./lost", 127)])
def test_what_could_not_be_started_was_given_nothing(
    keeper: Scopekeeper, session: str, turn: Path, state: Path, command: str, status: int
) -> None:
    (turn / "lost").write_text("#!/no/such/interpreter\n")
    (turn / "lost").chmod(0o755)
    done = keeper.run("-s", session, "--own", str(turn), "--", command, cwd=turn)
    assert done.returncode == status
    assert claims(state) == []
    assert reconcile(keeper) == []
    assert turn.exists()


def test_a_launch_that_cannot_be_contained_gives_it_back(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    nowhere = "cgroup:/sys/fs/cgroup" if not ROOT else "cgroup:/proc"
    words = ("-s", session, "--placement", nowhere, "--own", str(turn))
    assert keeper.run(*words, "--", "true").returncode == 125
    assert claims(state) == []
    assert turn.exists()


@pytest.mark.skipif(ROOT, reason="root can always make a cgroup")
def test_an_uncontained_command_owns_nothing(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    words = ("-s", session, "--placement", "cgroup:/sys/fs/cgroup", "--if-unavailable", "warn")
    done = keeper.run(*words, "--own", str(turn), "--", "true")
    assert done.returncode == 0
    assert "--own has no effect" in done.stderr
    assert claims(state) == []
    assert turn.exists()


CRASH = """
import itertools, os, signal, sys
step, *sys.argv[1:] = int(sys.argv[1]), *sys.argv[2:]
seen = itertools.count()
WRITES = os.O_CREAT | os.O_WRONLY
def hook(event, arguments):
    changes = event in ("os.rename", "os.remove", "os.mkdir", "os.setxattr", "os.exec",
                        "socket.connect")
    if changes or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
        if next(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)
from scopekeeper.main import main
from scopekeeper.launch import run as _
from scopekeeper.owned import claim_at_launch as _
sys.dont_write_bytecode = True
sys.addaudithook(hook)
main()
"""


def test_a_launch_killed_at_any_step_has_handed_it_over_or_not(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    died, removed = True, 0
    for step in range(100):
        turn.mkdir(exist_ok=True)
        ran = turn.parent.parent / f"ran{step}"
        script = f"touch {ran}; exec sleep infinity"
        words = ("run", "-s", f"{session}:{step}", "--own", str(turn), "--", "sh", "-c", script)
        launch = keeper.popen([sys.executable, "-c", CRASH, str(step), *words])
        eventually(lambda launch=launch, ran=ran: launch.poll() is not None or ran.exists())
        died = launch.poll() == -signal.SIGKILL
        before = len(claims(state))
        if not died:
            break
        done = reconcile(keeper)
        assert not ran.exists()
        assert len(done) == before
        assert turn.exists() is (before == 0)
        removed += before
        assert claims(state) == []
    assert not died
    assert step > removed > 2
    assert reconcile(keeper) == []
    launch.kill()
    launch.wait()
    assert [each["outcome"] for each in reconcile(keeper)] == ["removed"]


def test_the_folder_of_a_turn_that_reuses_a_member_is_removed_at_once(
    keeper: Scopekeeper, session: str, turn: Path, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    script = ("sh", "-c", "sleep infinity; : $0")
    words = ("-s", session, "-n", "it", "--own", str(tmp_path / "first"))
    member = keeper.member(*words, "--", *script, str(tmp_path / "first"))
    done = keeper.call("own", "-s", session, "-n", "it", str(turn))
    assert done.returncode == 0, done.stderr
    assert "removed: nothing in" in done.stdout
    assert not turn.exists()
    assert (tmp_path / "first").exists()
    assert is_alive(member.pid)


def test_what_a_member_uses_is_handed_over_while_it_runs(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    script = ("sh", "-c", "sleep infinity; : $0", str(turn / "mcp.json"))
    member = keeper.member("-s", session, "-n", "it", "--", *script)
    done = keeper.call("own", "-s", session, "-n", "it", str(turn))
    assert done.returncode == 0, done.stderr
    assert "has it in its arguments" in done.stdout
    assert turn.exists()
    assert keeper.call("stop", "-s", session).returncode == 0
    assert member.wait() == -signal.SIGTERM
    assert not turn.exists()


def test_helpers_are_started_from_it_long_after_the_turn_that_made_it(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    script = 'while read -r line; do sh -c "cat $0/mcp.json; echo"; done'
    member = keeper.member(
        "-s", session, "-n", "it", "--", "sh", "-c", script, str(turn),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert keeper.call("own", "-s", session, "-n", "it", str(turn)).returncode == 0
    for _ in range(3):
        assert reconcile(keeper) == []
        member.stdin.write(b"\n")
        member.stdin.flush()
        assert member.stdout.readline() == b"{}\n"
    member.stdin.close()
    assert member.wait() == 0
    assert [each["outcome"] for each in reconcile(keeper)] == ["removed"]


def test_it_is_kept_unused_where_that_is_asked_for(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    unit = os.path.basename(scope_directory(session))
    done = keeper.call("own", unit, "--keep-until-end", str(turn))
    assert done.returncode == 0, done.stderr
    assert turn.exists()
    assert [each["holder"] for each in owned(keeper)] == ["scope"]
    member.kill()
    member.wait()
    reconcile(keeper)
    assert not turn.exists()


def test_to_nobody_nothing_is_handed_over(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    keeper.member("-s", session, "-n", "it", "--", *FOREVER)
    for words in (["-s", session + "x"], ["-s", session, "-n", "other"], ["no-such.scope"]):
        done = keeper.call("own", *words, str(turn))
        assert done.returncode == 4
        assert turn.exists()
    assert claims(state) == []


@pytest.mark.parametrize(
    "words", [[], ["/x"], ["-s", "x"], ["--list", "x"], ["unit"]], ids=" ".join
)
def test_a_wrong_call_says_what_to_do(keeper: Scopekeeper, words: list[str]) -> None:
    done = keeper.call("own", *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_what_is_taken_back_stays(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    member = keeper.member("-s", session, "--own", str(turn), "--", *FOREVER)
    assert keeper.call("disown", str(turn)).returncode == 0
    assert keeper.call("disown", str(turn)).returncode == 4
    member.kill()
    member.wait()
    assert reconcile(keeper) == []
    assert turn.exists()
    assert claims(state) == []


def test_a_damaged_claim_shows_and_stays(
    keeper: Scopekeeper, session: str, turn: Path, state: Path
) -> None:
    keeper.member("-s", session, "--own", str(turn), "--", *FOREVER)
    damaged = state / "owned" / "0123456789abcdef.claim"
    damaged.write_text("V=1\nPATH=/")
    for words in (["reconcile"], ["own", "--list"]):
        done = keeper.call(*words)
        assert done.returncode == 1
        assert str(damaged) in done.stderr
    assert damaged.exists()
    assert turn.exists()


@pytest.fixture
def disk(state: Path) -> Iterator[Path]:
    """Have the state on a small disk of its own."""
    state.mkdir(mode=0o700, parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", state], check=True)
    yield state
    subprocess.run(["umount", state], check=True)


@pytest.mark.root
@pytest.mark.root
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_without_a_disk_to_write_to_nothing_else_stops_working(
    keeper: Scopekeeper, session: str, turn: Path, disk: Path, tmp_path: Path, trouble: str
) -> None:
    member = keeper.member("-s", session, "--own", str(turn), "--", *FOREVER)
    (tmp_path / "second").mkdir()
    if trouble == "full":
        with pytest.raises(OSError, match="No space"):
            (disk / "filler").write_bytes(bytes(1 << 20))
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    words = ("--own", str(tmp_path / "second"))
    done = keeper.run("-s", session, *words, "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert "cannot write to" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert (tmp_path / "second").exists()
    assert keeper.run("-s", session, "--", "true").returncode == 0
    done = keeper.call("stop", "-s", session)
    assert member.wait() == -signal.SIGTERM
    assert not turn.exists()
    assert done.returncode == (0 if trouble == "full" else 1)
    if trouble == "read-only":
        assert "its claim stays" in done.stdout
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert [each["outcome"] for each in reconcile(keeper)] == ["gone"]
    assert claims(disk) == []


@pytest.mark.root
@pytest.mark.root
def test_what_is_mounted_inside_later_is_not_crossed(
    keeper: Scopekeeper, session: str, turn: Path, tmp_path: Path
) -> None:
    member = keeper.member("-s", session, "--own", str(turn), "--", *FOREVER)
    (turn / "disk").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "outside", turn / "disk"], check=True)
    try:
        member.kill()
        member.wait()
        done = keeper.call("reconcile")
        assert done.returncode == 1
        assert "is mounted" in done.stdout
        assert (turn / "disk" / "kept").exists()
        (claim,) = owned(keeper)
        assert (claim["state"], claim["attempts"]) == ("failed", 1)
    finally:
        subprocess.run(["umount", turn / "disk"], check=True)
    assert [each["outcome"] for each in reconcile(keeper)] == ["removed"]


@pytest.mark.root
@pytest.mark.root
def test_root_is_not_led_out_of_a_folder_that_another_user_can_change(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    theirs = tmp_path / "room" / "theirs"
    (theirs / "mine").mkdir(parents=True)
    os.chown(theirs, 1000, 1000)
    member = keeper.member("-s", session, "--own", str(theirs / "mine"), "--", *FOREVER)
    (theirs / "mine").rename(theirs / "moved")
    (theirs / "mine").symlink_to(tmp_path / "outside")
    member.kill()
    member.wait()
    assert [each["outcome"] for each in reconcile(keeper)] == ["changed"]
    assert (theirs / "moved").exists()
    (theirs / "mine").unlink()
    (theirs / "moved").rmdir()
    theirs.rmdir()


def test_a_required_path_that_is_missing_is_said_at_once(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    missing = turn / "no-such.json"
    words = ("-s", session, "--require", str(turn), "--require", str(missing))
    done = keeper.run(*words, "--", "touch", str(turn / "ran"))
    assert done.returncode == 125
    assert done.stderr == f"scopekeeper: required path {missing} is missing\n"
    assert not (turn / "ran").exists()
    assert not scope_directory(session)
    missing.touch()
    assert keeper.run(*words, "--", "touch", str(turn / "ran")).returncode == 0
    assert (turn / "ran").exists()


def test_own_and_require_also_work_where_the_arguments_are_not_plain(
    keeper: Scopekeeper, session: str, turn: Path
) -> None:
    words = (f"-s{session}", "--require", str(turn), "--own", str(turn), "--own-scope")
    member = keeper.member(*words, "--", *FOREVER)
    assert [each["holder"] for each in owned(keeper)] == ["scope"]
    assert directory_of(member.pid).startswith(scope_directory(session))
