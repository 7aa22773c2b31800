"""Services with hardening directives, and /proc that hides other users' processes.

``run`` works where the kernel lets it; else it exits 125 with one line that names the directive.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.how_to import block, here
from tests.machine import (
    FOREVER,
    MOUNT,
    PROGRAM,
    ROOT,
    SHELL,
    Scopekeeper,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
    scope_directory,
    text_of,
)

from .manager import (
    UNIT_FOLDER,
    Units,
    main_pid,
    manager_version,
    show,
    state,
    systemctl,
    systemd_run_argv,
)

pytestmark = pytest.mark.systemd

WORKS = ""
_CALLERS = ("root", "user of a system service", "user's own service")
_FEW = "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"
_TABLE: dict[tuple[str, ...], tuple[str | None, str | None, str | None]] = {
    # directives                          root, User= in a system service, a user's own service
    ("ProtectProc=invisible",): (WORKS, WORKS, WORKS),
    ("ProtectProc=noaccess",): (WORKS, WORKS, WORKS),
    ("ProcSubset=pid",): (WORKS, WORKS, WORKS),
    ("ProcSubset=pid", "ProtectProc=invisible"): (WORKS, WORKS, WORKS),
    ("ProcSubset=pid", _FEW): ("ProcSubset=", WORKS, None),
    ("ProtectControlGroups=yes",): ("ProtectControlGroups=",) * 3,
    ("ReadOnlyPaths=/sys/fs/cgroup",): ("ReadOnlyPaths=",) * 3,
    ("PrivateUsers=yes",): (WORKS, WORKS, WORKS),
    ("RestrictAddressFamilies=AF_INET",): ("RestrictAddressFamilies=",) * 3,
    ("NoNewPrivileges=yes",): (WORKS, WORKS, WORKS),
    ("ProtectSystem=strict",): (WORKS, WORKS, WORKS),
    ("ProtectHome=yes",): (WORKS, "ProtectHome=", "ProtectHome="),
    ("TemporaryFileSystem=/run",): (None, "TemporaryFileSystem=", "TemporaryFileSystem="),
    ("InaccessiblePaths=/run/dbus",): (WORKS, WORKS, WORKS),
    ("PrivateDevices=yes", "ProtectKernelTunables=yes"): (WORKS, WORKS, WORKS),
    ("SystemCallFilter=@system-service",): (WORKS, WORKS, WORKS),
    ("DynamicUser=yes",): ("Delegate=yes", None, None),
    ("DynamicUser=yes", "Delegate=yes"): (WORKS, None, None),
}
"""What ``run`` does: WORKS, the directive in the line with which it refuses, None: not tried."""
_CASES = [
    (caller, directives, row[number])
    for directives, row in _TABLE.items()
    for number, caller in enumerate(_CALLERS)
    if row[number] is not None and (caller == "user's own service") is not ROOT
]


def launch(
    session: str, caller: str, directives: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    """Run a command that prints its cgroup, in a service of this kind."""
    options = [f"--property={each}" for each in directives]
    options += ["--property=User=1000"] if caller == "user of a system service" else []
    argv = systemd_run_argv("--pipe", "--wait", "--collect", f"--setenv=PATH={os.environ['PATH']}")
    command = ["sed", "-n", "s/^0:://p", "/proc/self/cgroup"]
    return subprocess.run(
        [*argv, *options, "--", PROGRAM, "run", "-s", session, "--", *command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(("caller", "directives", "refusal"), _CASES)
def test_a_launch_works_or_names_the_directive(
    keeper: Scopekeeper, session: str, caller: str, directives: tuple[str, ...], refusal: str
) -> None:
    mounts = ("ProtectControl", "ReadOnlyPaths", "ProtectHome", "TemporaryFile", "PrivateDevices")
    if not ROOT and manager_version() < 254 and directives[0].startswith(mounts):
        pytest.skip("systemd 252 cannot do that, or ignores it, in a user's manager")
    done = launch(session, caller, directives)
    if refusal == WORKS:
        assert (done.returncode, done.stderr) == (0, "")
        assert "/scopekeeper-" in done.stdout
        assert "/m-sed." in done.stdout
    else:
        assert done.returncode == 125, done
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert refusal in line
        assert "scopekeeper doctor" not in line


def test_a_record_written_where_the_boot_is_hidden_is_of_this_boot(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    user = ("--property=User=1000",) if ROOT else ()
    command = (PROGRAM, "run", "-s", session, "--", *FOREVER)
    name = f"hidden-{session[-8:]}.service"
    units.run(name, "--property=ProcSubset=pid", *user, command=command)
    directory = eventually(lambda: scope_directory(session))
    (leaf,) = eventually(lambda: leaves(directory))
    record = eventually(lambda: record_of(f"{directory}/{leaf}"))
    assert record["BOOT"] == text_of("/proc/sys/kernel/random/boot_id").strip()


_HIDE = """
id=/proc/sys/kernel/random/boot_id copy=$(mktemp)
cat $id >$copy  # a container can have a boot of its own mounted there
mount -t proc -o hidepid=2 proc /proc
mount --bind $copy $id
rm $copy
exec "$@"
"""
_BECOME = ["setpriv", "--reuid=1000", "--regid=1000", "--init-groups"]


def as_lab(*words: str, hidden: bool) -> list[str]:
    """Return the command line of the program as user 1000, who sees only her own processes."""
    variables = ["env", "HOME=/home/lab", "XDG_RUNTIME_DIR=/run/user/1000"]
    argv = [*_BECOME, *variables, PROGRAM, *words]
    if not hidden:
        return argv
    return ["unshare", "--mount", "--propagation=private", "sh", "-ec", _HIDE, "sh", *argv]


def reconcile(*, hidden: bool) -> str:
    """Do a ``reconcile``, and return what it says."""
    argv = as_lab("reconcile", hidden=hidden)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not ROOT, reason="only root can mount procfs, and own what a user starts")
@pytest.mark.parametrize("hidden", [False, True], ids=["seen by the launch", "hidden from it"])
def test_an_owner_that_procfs_hides_is_never_gone_while_it_lives(
    keeper: Scopekeeper, session: str, hidden: bool
) -> None:
    owner = keeper.popen([*FOREVER])
    words = ("run", "-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    member = keeper.popen(as_lab(*words, hidden=hidden), stdin=subprocess.DEVNULL)
    directory = eventually(lambda: scope_directory(session))
    (leaf,) = eventually(lambda: leaves(directory))
    eventually(lambda: record_of(f"{directory}/{leaf}"))
    assert directory.startswith(f"{MOUNT}/user.slice/")
    eventually(lambda: text_of(f"/proc/{member.pid}/comm") == "sleep\n")
    for hidden_now in (True, False):
        reconcile(hidden=hidden_now)
        assert is_alive(member.pid)
        assert is_alive(owner.pid)
    owner.kill()
    owner.wait()
    said = reconcile(hidden=True)
    assert "has ended" in said
    member.wait(60)


GATEWAY = """
{program} run -s {session} -n a -- sleep infinity </dev/null &
{program} run -s {session} -n b -- sh -c 'setsid sleep infinity & exec sleep infinity' </dev/null &
exec sleep infinity
"""


@pytest.mark.skipif(not ROOT, reason="only root has services of the system's manager")
@pytest.mark.parametrize("way", ["Delegate=yes", "drop-in"])
def test_a_system_service_of_a_user_leaves_nothing_when_it_stops(
    keeper: Scopekeeper, units: Units, session: str, way: str
) -> None:
    name = f"gw-{session[-8:]}.service"
    units.adopt(name)
    after = f"ExecStopPost=-{PROGRAM} stop --owner {name} --lifetime gateway"
    script = GATEWAY.format(program=PROGRAM, session=session)
    setting = f"--property={way if way == 'Delegate=yes' else after}"
    units.run(name, "--property=User=1000", setting, command=("sh", "-c", script))
    directory = eventually(lambda: scope_directory(session))
    pids = eventually(lambda: len(found := processes(directory)) == 3 and found)
    eventually(lambda: all(text_of(f"/proc/{pid}/comm") == "sleep\n" for pid in pids))
    assert directory.startswith(f"{MOUNT}/system.slice/{name}/") is (way == "Delegate=yes")
    assert systemctl("stop", name).returncode == 0
    eventually(lambda: not any(map(is_alive, pids)), seconds=5)


@pytest.mark.skipif(not ROOT, reason="only root has services of the system's manager")
def test_a_service_whose_stop_ends_no_scope_is_named(
    keeper: Scopekeeper, units: Units, session: str, tmp_path: Path
) -> None:
    name = f"gw-{session[-8:]}.service"
    script = GATEWAY.format(program=PROGRAM, session=session)
    units.run(name, "--property=User=1000", command=("sh", "-c", script))
    directory = eventually(lambda: scope_directory(session))
    eventually(lambda: len(processes(directory)) == 3)
    servers = tmp_path / "mcp.json"
    servers.write_text('{"mcpServers": {}}')
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    for words in (
        ["doctor"],
        ["openclaw", "status", "--config", str(servers)],
        ["wrap", "--dry-run", str(servers)],
    ):
        done = subprocess.run(as_lab(*words, hidden=False), capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert f"{name} is a service of the system's manager" in said, words
        assert f"sudo scopekeeper install --system --gateway {name}" in said, words


@pytest.mark.skipif(not ROOT, reason="only root can make a PID namespace")
@pytest.mark.parametrize("reaps", [False, True])
def test_doctor_finds_a_first_process_that_does_not_reap(keeper: Scopekeeper, reaps: bool) -> None:
    waits = "while os.wait()[0] != child.pid: pass" if reaps else "child.wait()"
    first = f"import os, subprocess; child = subprocess.Popen(['{PROGRAM}', 'doctor'])\n{waits}"
    inner = 'mount -t tmpfs tmpfs /run && exec "$@"'
    argv = ["unshare", "--pid", "--fork", "--mount-proc", "--propagation=private", "sh", "-c"]
    done = subprocess.run(
        [*argv, inner, "sh", sys.executable, "-c", first],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "cgroup2" in done.stdout, done.stderr
    assert ("does not reap" in done.stdout) is not reaps


@pytest.mark.parametrize("mode", ["process", "mixed"])
def test_install_warns_of_a_gateway_whose_stop_leaves_processes(
    keeper: Scopekeeper, units: Units, session: str, mode: str
) -> None:
    name = f"gw-{session[-8:]}.service"
    units.write(name, f"[Service]\nKillMode={mode}\nExecStart=sleep infinity\n")
    kind = "--system" if ROOT else "--user"
    done = keeper.call("install", kind, "--gateway", name, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert ("KillMode=process" in done.stderr) is (mode == "process")
    if mode == "process":
        (command,) = re.findall(r"to end it too: (.*)", done.stderr)
        command = re.sub(r"\S+/20-", f"{UNIT_FOLDER}/{name}.d/20-", command)
        assert subprocess.run(["sh", "-c", command]).returncode == 0
        assert show(name, "KillMode") == "mixed"
        shutil.rmtree(f"{UNIT_FOLDER}/{name}.d")


_RESTARTS = {
    "restart": block("gateway-restart.md", "Only a restart", "sh"),
    "stop, then start": "systemctl --user stop my-gateway; sleep 1; "
    "systemctl --user start my-gateway",
    "detached": block("gateway-restart.md", "Something in between", "sh"),
}
_AT_FIRST = "test -e {note} || {{ : >{note}; setsid {shell} -c {command} </dev/null & }}\n"


@pytest.mark.parametrize("way", _RESTARTS)
def test_a_gateway_comes_back_that_one_of_its_commands_restarts(
    keeper: Scopekeeper, units: Units, session: str, tmp_path: Path, way: str
) -> None:
    """A stop before a start ends the command that would start it; the page has the other ways."""
    name = f"gw-{session[-8:]}.service"
    command = here(_RESTARTS[way]).replace("my-gateway", name).replace("./upgrade", "sleep 1")
    command = command.replace("scopekeeper run -s upgrade", f"{PROGRAM} run -s {session}:up")
    note = tmp_path / "done"
    first = _AT_FIRST.format(note=note, shell=SHELL, command=shlex.quote(command))
    script = tmp_path / "gateway"
    script.write_text(f"sleep 1\n{first}echo $$ >>{tmp_path}/lives\nexec sleep infinity\n")
    path = f"Environment=PATH={os.environ['PATH']}"
    units.write(name, f"[Service]\n{path}\nKillMode=process\nExecStart=sh {script}\n")
    assert systemctl("start", name).returncode == 0
    if way == "stop, then start":
        eventually(lambda: note.exists() and state(name) == "inactive")
        eventually(lambda: not scope_directories())
        assert state(name) == "inactive"
    else:
        eventually(lambda: len(text_of(tmp_path / "lives").split()) == 2)
        assert state(name) == "active"
        assert main_pid(name) == int(text_of(tmp_path / "lives").split()[1])
