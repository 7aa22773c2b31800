"""Callers that are other users, or in a login session; only root can be all of them."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scopekeeper.kernel.proc import start_time
from tests.machine import (
    FOREVER,
    MOUNT,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    rewrite_record,
    scope_directories,
    scope_directory,
    text_of,
    wait_for_command,
)

from .manager import Units, main_pid, show, state, systemd_run_argv, uid_of
from .test_callers import bare
from .test_stop import STUBBORN

pytestmark = pytest.mark.systemd

USER_SLICE = "{0}/user.slice/user-{1}.slice/user@{1}.service/scopekeeper.slice".format(
    MOUNT, uid_of("lab")
)
OTHER = uid_of("other")


def as_user(user: str, *command: str) -> list[str]:
    """Return the words that run a command as a user, with nothing of a login."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *command]


@pytest.fixture
def login(request: pytest.FixtureRequest) -> list[str]:
    """Give the words that run a command in a login session of lab."""
    path = f"--setenv=PATH={os.environ['PATH']}"
    name = f"login-{os.getpid()}-{abs(hash(request.node.nodeid)) % 10**6}"
    return [
        *systemd_run_argv("--pipe", "--wait", "--collect", f"--unit={name}", path),
        "-pPAMName=login", "-pUser=lab", "-pWorkingDirectory=/", "--",
    ]  # fmt: skip


def test_a_login_session_creates_and_joins(
    keeper: Scopekeeper, session: str, login: list[str]
) -> None:
    argv = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    see = "cat /proc/self/cgroup >&2"
    caller = keeper.popen(
        [*login, "sh", "-c", f"{see}; {argv} & {argv} & wait"], stderr=subprocess.PIPE
    )
    scope = eventually(lambda: scope_directory(session, USER_SLICE))
    eventually(lambda: len(processes(scope)) == 2)
    for pid in processes(scope):
        eventually(lambda pid=pid: text_of(f"/proc/{pid}/comm") == "sleep\n")
        assert os.path.dirname(directory_of(pid)) == scope
    path = caller.stderr.readline().decode()
    while not path.startswith("0::"):
        path = caller.stderr.readline().decode()
    assert "session-" in path, "the caller was in no login session"
    assert text_of(f"{scope}/cgroup.procs") == ""


GATEWAY = """
import os, sys, scopekeeper
with scopekeeper.Cohort(sys.argv[1]) as cohort:
    members = [cohort.spawn(["sleep", "1000"]) for _ in range(2)]
    for pid in (os.getpid(), *(each.pid for each in members)):
        print(pid, *[line[3:] for line in open(f"/proc/{pid}/cgroup") if line[0] == "0"], end="")
"""


def test_a_gateway_in_python_in_a_login_session_has_its_members_moved(
    keeper: Scopekeeper, session: str, login: list[str]
) -> None:
    """The kernel lets no child of it be born in the scope: systemd moves a launcher there."""
    done = subprocess.run(
        [*login, sys.executable, "-c", GATEWAY, session], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    own, *members = (line.split() for line in done.stdout.splitlines())
    assert "session-" in own[1]
    scopes = {os.path.dirname(path) for _, path in members}
    assert len(members) == 2
    assert [os.path.dirname(each) for each in scopes] == [USER_SLICE[len(MOUNT) :]]
    assert not any(is_alive(int(pid)) for pid, _ in members)


def test_what_a_login_session_started_is_orphaned_by_its_end(
    keeper: Scopekeeper, session: str, login: list[str]
) -> None:
    argv = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    caller = keeper.popen([*login, "sh", "-c", f"{argv} & read end"], stdin=subprocess.PIPE)
    scope = eventually(lambda: scope_directory(session, USER_SLICE))
    (pid,) = eventually(lambda: processes(scope))
    eventually(lambda: text_of(f"/proc/{pid}/comm") == "sleep\n")
    caller.communicate(b"\n")
    assert is_alive(pid)
    done = subprocess.run(
        as_user("lab", PROGRAM, "reconcile"), env=bare("lab"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not is_alive(pid)


def test_a_user_without_a_manager_is_told_in_one_line(keeper: Scopekeeper, session: str) -> None:
    launch = as_user("other", *keeper.argv("-s", session, "--", "echo", "ran"))
    done = subprocess.run(launch, env=bare("other"), capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stdout) == (125, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"/run/user/{OTHER}" in done.stderr
    assert "doctor" in done.stderr


def test_a_user_without_a_manager_can_ask_to_run_all_the_same(
    keeper: Scopekeeper, session: str
) -> None:
    launch = as_user(
        "other",
        *keeper.argv("-s", session, "--if-unavailable=warn", "--", "sh", "-c", "env; exit 3"),
    )
    done = subprocess.run(launch, env=bare("other"), capture_output=True, text=True, cwd="/")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "uncontained" in done.stderr
    assert "SCOPEKEEPER_" not in done.stdout


def test_a_service_of_a_user_without_a_manager_uses_its_delegated_cgroup(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    name = f"delegated-{session[-8:]}.service"
    units.run(
        name,
        "-pUser=other",
        "-pDelegate=yes",
        "-pWorkingDirectory=/",
        command=tuple(keeper.argv("-s", session, "--", *FOREVER)),
    )
    inside = show(name, "ControlGroup") + "/scopekeeper-"
    eventually(lambda: cgroup_of(main_pid(name)).startswith(inside))
    assert state(name) == "active"


def test_a_gateway_of_a_user_without_a_manager_launches_into_its_delegated_cgroup(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    name = f"gateway-{session[-8:]}.service"
    argv = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    units.run(
        name,
        "-pUser=other",
        "-pDelegate=yes",
        "-pWorkingDirectory=/",
        command=("sh", "-c", f"{argv} & {argv} & exec sleep infinity"),
    )
    folder = MOUNT + show(name, "ControlGroup")
    scope = eventually(lambda: scope_directory(session, folder))
    eventually(lambda: len(processes(scope)) == 2)
    assert os.stat(scope).st_uid == OTHER


@pytest.fixture
def theirs(keeper: Scopekeeper, session: str) -> subprocess.Popen[bytes]:
    """Give a member of lab's, whose owner has ended and who minds no SIGTERM for an hour."""
    owner = keeper.popen(as_user("lab", "sleep", "infinity"))
    eventually(lambda: text_of(f"/proc/{owner.pid}/comm") == "sleep\n")
    options = ("-s", session, "-n", "theirs", f"--owner={owner.pid}", "--grace=1h")
    launch = as_user("lab", *keeper.argv(*options, "--", *STUBBORN))
    process = keeper.popen(launch, env=bare("lab"), cwd="/", stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    assert directory_of(process.pid).startswith(USER_SLICE + "/")
    assert record_of(directory_of(process.pid))["OWNER_PID"] == str(owner.pid)
    owner.kill()
    owner.wait()
    return process


def test_roots_commands_are_about_root_alone(
    keeper: Scopekeeper, session: str, theirs: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    before = (
        record_of(directory_of(theirs.pid)),
        record_of(os.path.dirname(directory_of(theirs.pid))),
    )
    assert keeper.scopes() == []
    listed = keeper.call("ls", "-s", session)
    assert listed.stdout.splitlines()[-1] == "1 scope of 1 other user: --all-users"
    assert keeper.call("ls", "-s", "another").stdout.count("\n") == 1
    assert keeper.call("reconcile").returncode == 0
    for command in (("stop", "-s", session), ("stop", "-n", "theirs"), ("why", session)):
        assert keeper.call(*command, "--must-exist").returncode == 4
    for command in (("adopt", "-s", session), ("own", "-s", session, str(tmp_path))):
        assert keeper.call(*command).returncode == 4
    assert tmp_path.is_dir()
    assert is_alive(theirs.pid)
    after = (
        record_of(directory_of(theirs.pid)),
        record_of(os.path.dirname(directory_of(theirs.pid))),
    )
    assert before == after


@pytest.mark.parametrize("option", ["--all-users", "--all-owners"])
def test_root_sees_the_scopes_of_all_users_with_their_names(
    keeper: Scopekeeper, session: str, theirs: subprocess.Popen[bytes], option: str
) -> None:
    listed = keeper.call("ls", option).stdout.splitlines()
    assert listed[0].split()[:2] == ["USER", "SESSION"]
    assert [line.split()[:2] for line in listed[1:]] == [["lab", session]]
    (scope,) = keeper.scopes(option)
    assert (scope["uid"], scope["user"], scope["state"]) == (uid_of("lab"), "lab", "orphan")
    assert "user lab) is running" in keeper.call("why", session, "--all-users").stdout


def test_root_stops_what_all_users_have_and_nobodys_grace_shields_another(
    keeper: Scopekeeper, session: str, theirs: subprocess.Popen[bytes]
) -> None:
    own = keeper.start("-s", session, "--grace=200ms", "--", *STUBBORN, stdout=subprocess.PIPE)
    assert own.stdout.readline() == b"ready\n"
    stop = keeper.popen([PROGRAM, "stop", "-s", session, "--all-users"])
    assert own.wait(60) == -signal.SIGKILL
    assert is_alive(theirs.pid)
    stop.kill()
    stop.wait()
    done = keeper.call("stop", "-s", session, "--all-users", "--grace=0")
    assert done.returncode == 0, done.stderr
    assert ".scope of lab: gone after" in done.stdout
    assert not is_alive(theirs.pid)
    told = keeper.call("history", "-s", session, "--json").stdout
    assert [end["unit"] for end in json.loads(told)["ends"] if end["pid"] == theirs.pid] == []
    (end,) = json.loads(as_lab("history", "-s", session, "--json").stdout)["ends"]
    assert (end["reason"], end["stopper"]["uid"]) == ("stopped by request", 0)
    eventually(lambda: not scope_directories())


def test_another_user_sees_and_cannot_stop(
    keeper: Scopekeeper, session: str, theirs: subprocess.Popen[bytes]
) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = as_user("other", PROGRAM, *arguments)
        return subprocess.run(argv, env=bare("other"), capture_output=True, text=True, cwd="/")

    assert call("ls").stdout == call("ls", "-s", session).stdout
    assert "lab" in call("ls", "--all-users").stdout
    done = call("stop", "-s", session, "--all-users")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert f"belongs to uid {uid_of('lab')}" in done.stdout
    assert is_alive(theirs.pid)


def as_lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the program as lab, with nothing of root's environment."""
    argv = as_user("lab", PROGRAM, *arguments)
    return subprocess.run(argv, env=bare("lab"), capture_output=True, text=True, cwd="/")


@pytest.fixture
def labs_rules() -> Iterator[Path]:
    """Give lab's file of rules; her folder is as before afterwards."""
    home = Path("~lab").expanduser()
    folder = home / ".config/scopekeeper"
    assert not folder.exists()
    before = (home / ".config").exists()
    subprocess.run(as_user("lab", "mkdir", "-p", str(folder)), check=True)
    yield folder / "config.toml"
    shutil.rmtree(folder if before else home / ".config")


def test_root_reconciles_as_each_user_by_her_own_rules(
    keeper: Scopekeeper, session: str, theirs: subprocess.Popen[bytes], labs_rules: Path
) -> None:
    labs_rules.write_text('[lanes.default]\norphan_grace = "infinity"\n')
    labs_rules.chmod(0o644)
    shutil.chown(labs_rules, "lab")
    planned = keeper.call("reconcile", "--all-users", "--dry-run").stdout.splitlines()
    assert planned[0].split()[:2] == ["USER", "SESSION"]
    (line,) = [line.split() for line in planned if session in line]
    assert (line[0], line[5], line[6]) == ("lab", "orphan", "keep")
    assert keeper.call("reconcile", "--all-users").returncode == 0
    assert is_alive(theirs.pid)
    labs_rules.unlink()
    rewrite_record(os.path.dirname(directory_of(theirs.pid)), GRACE="100000")
    done = keeper.call("reconcile", "--all-users", "--json")
    assert done.returncode == 0, done.stderr
    (action,) = [each for each in json.loads(done.stdout)["actions"] if each["class"] == "orphan"]
    assert (action["user"], action["outcome"]) == ("lab", "killed")
    assert not is_alive(theirs.pid)
    # it is hers to remember, not root's
    assert session in as_lab("history", "-s", session).stdout
    assert session not in keeper.call("history", "-s", session).stdout
    assert "owner is gone" in as_lab("why", session).stdout
    for arguments in (("history", "-s", session), ("why", session)):
        assert session not in keeper.call(*arguments).stdout.replace(f"of {session}.", "")
        everybodys = keeper.call(*arguments, "--all-users")
        assert everybodys.returncode == 0, everybodys.stderr
        assert "lab" in everybodys.stdout
        assert session in everybodys.stdout
    (end,) = json.loads(keeper.call("why", session, "--all-users", "--json").stdout)["ends"]
    assert (end["user"], end["reason"]) == ("lab", "owner gone")


@pytest.mark.parametrize("command", [("history",), ("why", "x"), ("reconcile",)])
def test_only_root_does_something_as_another_user(
    keeper: Scopekeeper, command: tuple[str, ...]
) -> None:
    done = as_lab(*command, "--all-users")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "only root" in done.stderr


def test_another_user_cannot_keep_root_from_its_scope(keeper: Scopekeeper, session: str) -> None:
    """Whoever may read a directory may lock it."""
    member = keeper.member("-s", session, "--", *FOREVER)
    scope = os.path.dirname(directory_of(member.pid))
    script = 'exec 9< "$1"; flock -x 9; echo locked; exec sleep infinity'
    rival = keeper.popen(as_user("other", "sh", "-c", script, "sh", scope), stdout=subprocess.PIPE)
    assert rival.stdout.readline() == b"locked\n"
    done = keeper.run("-s", session, "--", "echo", "joined", timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "joined\n", "")
    lock = f"{scope}/cgroup.kill"
    assert subprocess.run(as_user("other", "sh", "-c", 'exec 9< "$1"', "sh", lock)).returncode != 0
    assert keeper.call("stop", "-s", session).returncode == 0
    assert is_alive(rival.pid)


@pytest.fixture
def lingering() -> Iterator[Callable[[], None]]:
    """Give what starts other's manager; without lingering logind would stop it as it starts."""

    def begin() -> None:
        assert subprocess.run(["loginctl", "enable-linger", "other"]).returncode == 0
        eventually(lambda: state(f"user@{OTHER}.service") == "active")

    yield begin
    assert subprocess.run(["loginctl", "disable-linger", "other"]).returncode == 0


def test_another_users_closed_manager_takes_nothing_away(
    keeper: Scopekeeper, session: str, units: Units, lingering: Callable[[], None]
) -> None:
    """With such a UMask= the cgroups of a manager are its user's alone; no malice is needed."""
    units.write(f"user@{OTHER}.service.d/closed.conf", "[Service]\nUMask=0077\n")
    units.adopt(f"user@{OTHER}.service")
    lingering()
    folder = f"{MOUNT}/user.slice/user-{OTHER}.slice/user@{OTHER}.service"
    closed = eventually(lambda: [f for f in leaves(folder) if not mode_of(f"{folder}/{f}") & 0o7])
    launch = as_user("lab", *keeper.argv("-s", session, "--", *FOREVER))
    process = keeper.popen(launch, env=bare("lab"), cwd="/")
    eventually(lambda: text_of(f"/proc/{process.pid}/comm") == "sleep\n")
    for arguments in (("ls",), ("why", session), ("reconcile",), ("stop", "-s", session)):
        assert is_alive(process.pid)
        done = as_lab(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), closed
    assert process.wait(PATIENCE) == -signal.SIGTERM
    for options in ((), ("--all-users",)):
        done = keeper.call("ls", *options)
        assert done.returncode == 0, done.stderr


def mode_of(path: str) -> int:
    """Return the permissions of a folder; all of them where it is gone."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0o777


def labs_member(keeper: Scopekeeper, session: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a member of lab's; returns it and its scope's directory."""
    launch = as_user("lab", *keeper.argv("-s", session, "--", *FOREVER))
    member = keeper.popen(launch, env=bare("lab"), cwd="/")
    eventually(lambda: text_of(f"/proc/{member.pid}/comm") == "sleep\n")
    return member, os.path.dirname(directory_of(member.pid))


def test_a_cgroup_of_roots_in_a_users_scope_is_named_and_holds_up_nobody(
    keeper: Scopekeeper, session: str
) -> None:
    """As `sudo systemd-nspawn` or root's podman make one: it outlives what they ran."""
    member, scope = labs_member(keeper, session)
    (leaf,) = leaves(scope)
    payload = f"{scope}/{leaf}/payload"
    os.makedirs(f"{payload}/inner")
    remove = f"find {payload} -depth -type d -exec rmdir {{}} +"
    done = as_lab("stop", "-s", session)
    assert done.returncode == 0, done.stderr
    assert not is_alive(member.pid)
    if not os.path.exists(payload):  # a user's manager of systemd 262 has the system's remove it
        assert "stays" not in done.stdout
        done = as_lab("run", "-s", session, "--", "true")
        assert done.returncode == 0, done.stderr
        return
    assert f"its cgroup stays: {payload} belongs to uid 0" in done.stdout
    assert remove in done.stdout
    done = as_lab("run", "-s", session, "--", "true")
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert f"{payload} belongs to uid 0" in done.stderr
    assert subprocess.run(shlex.split(remove)).returncode == 0
    done = as_lab("run", "-s", session, "--", "true")
    assert done.returncode == 0, done.stderr


def test_who_waits_says_for_whom(keeper: Scopekeeper, session: str) -> None:
    member, scope = labs_member(keeper, session)
    with subprocess.Popen(FOREVER) as stopper:
        mark = {"STATE": "stopping", "STOPPER_PID": str(stopper.pid)}
        rewrite_record(scope, **mark, STOPPER_START=start_time(stopper.pid))
        words = keeper.argv("-s", session, "--", "true")
        how = {"env": bare("lab"), "cwd": "/", "stderr": subprocess.PIPE}
        waiting = keeper.popen(as_user("lab", *words), **how)
        assert waiting.stderr is not None
        line = waiting.stderr.readline().decode()
        assert line == (
            f"scopekeeper: waiting for process {stopper.pid} (sleep), which stops "
            f"{os.path.basename(scope)}\n"
        )
        stopper.kill()
    assert waiting.wait(PATIENCE) == 0, "it did not finish that stop"
    assert not is_alive(member.pid)


def test_titles_of_a_user_are_read_with_her_rights_alone(keeper: Scopekeeper) -> None:
    """A folder that only she can enter, and a link to a file that only root can read."""
    home, ours = Path("~lab/titles").expanduser(), Path("/root/titles.jsonl")
    ids = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(2)]
    folder = home / ".claude/projects/-x"
    make = f"mkdir -p {folder} && chmod 700 {home} && ln -s {ours} {folder}/{ids[1]}.jsonl"
    try:
        ours.write_text('{"type":"ai-title","aiTitle":"secret of root"}\n')
        subprocess.run(as_user("lab", "sh", "-c", make), check=True)
        file = folder / f"{ids[0]}.jsonl"
        file.write_text('{"type":"ai-title","aiTitle":"hers"}\n')
        os.chown(file, uid_of("lab"), uid_of("lab"))
        for each in ids:
            argv = as_user("lab", *keeper.argv("-s", f"claude:{each}", "--", *FOREVER))
            process = keeper.popen(argv, env=bare("lab") | {"HOME": str(home)}, cwd="/")
            wait_for_command(process)
        found = {scope["session"]: scope["title"] for scope in keeper.scopes("--all-users")}
        assert [found[f"claude:{each}"] for each in ids] == ["hers", None]
        listed = keeper.call("ls", "--all-users")
        assert "hers" in listed.stdout
        assert "secret" not in listed.stdout + listed.stderr
        theirs = subprocess.run(
            as_user("other", PROGRAM, "ls", "--all-users"), capture_output=True, text=True,
            env=bare("other"), cwd="/",
        )  # fmt: skip
        assert ids[0] in theirs.stdout
        assert "hers" not in theirs.stdout
    finally:
        ours.unlink(missing_ok=True)
        shutil.rmtree(home, ignore_errors=True)


def test_only_its_own_user_labels_a_scope(keeper: Scopekeeper, session: str) -> None:
    """The label selects: another user's could have root stop what it does not name."""
    _, scope = labs_member(keeper, session)
    unit = os.path.basename(scope)
    for wanted in (("-s", session), (unit,)):
        done = keeper.call("label", *wanted, "--as", "codex:1")
        assert done.returncode == 4
        assert (done.stdout + done.stderr).count("\n") == 1
    done = subprocess.run(
        as_user("other", PROGRAM, "label", unit, "--as", "codex:1"), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "LABEL" not in record_of(scope)
    assert as_lab("label", unit, "--as", "codex:1").returncode == 0
    assert record_of(scope)["LABEL"] == "codex:1"
