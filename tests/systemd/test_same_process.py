"""``run`` becomes the command: what the command sees and what its parent sees is as without it."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    environment_of,
    eventually,
    signal_set,
)

pytestmark = pytest.mark.systemd

OURS = "SCOPEKEEPER_"
BARE = {
    "HOME": os.environ.get("HOME", "/"),
    "LOGNAME": "somebody",
    "PATH": os.environ["PATH"],
    "SHELL": "/bin/sh",
    "TERM": "xterm",
    "USER": "somebody",
}
"""All that an MCP client passes on to its servers."""

REPORT = """
import json, os, resource, sys
def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].strip()
print(json.dumps({
    "pid": os.getpid(), "ppid": os.getppid(), "pgid": os.getpgid(0), "sid": os.getsid(0),
    "cwd": os.getcwd(), "umask": status("Umask"), "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "oom": open("/proc/self/oom_score_adj").read(), "timer slack": status("CapInh"),
    "blocked": status("SigBlk"), "no new privileges": status("NoNewPrivs"),
    "uids": status("Uid"), "groups": status("Groups"), "capabilities": status("CapEff"),
    "cpus": status("Cpus_allowed"), "dumpable": os.access("/proc/self/environ", os.R_OK),
    "limits": [resource.getrlimit(n) for n in range(16)],
    "descriptors": {n: os.readlink("/proc/self/fd/" + n) for n in os.listdir("/proc/self/fd")
                    if os.path.exists("/proc/self/fd/" + n)},
    "cloexec": [os.get_inheritable(int(n)) for n in sorted(os.listdir("/proc/self/fd"))
                if os.path.exists("/proc/self/fd/" + n)],
}))
"""


def both(
    keeper: Scopekeeper, session: str, command: list[str], **how: object
) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """Run a command bare and wrapped, in the same way."""
    how = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 120} | how
    bare = subprocess.run(command, text=True, errors="surrogateescape", **how)
    wrapped = subprocess.run(
        keeper.argv("-s", session, "--", *command), text=True, errors="surrogateescape", **how
    )
    return bare, wrapped


def test_the_command_keeps_the_pid_and_the_arguments(keeper: Scopekeeper, session: str) -> None:
    process = keeper.member("-s", session, "--", *FOREVER)
    assert Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n"
    assert Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"sleep\0infinity\0"
    assert not keeper.started[1:], "nothing else was started"
    assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""


def test_the_command_finds_all_as_it_would_without(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    odd = os.open(tmp_path / "kept", os.O_CREAT | os.O_RDWR)

    def prepare() -> None:
        os.umask(0o137)
        os.nice(3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (777, 888))
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 22, 1 << 24))
        Path("/proc/self/oom_score_adj").write_text("321")
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
        os.dup2(odd, 42)

    bare, wrapped = both(
        keeper,
        session,
        [sys.executable, "-c", REPORT],
        cwd=tmp_path,
        preexec_fn=prepare,
        close_fds=False,
    )
    os.close(odd)
    seen, expected = json.loads(wrapped.stdout), json.loads(bare.stdout)
    for each in (seen, expected):
        del each["pid"]
        for number in ("1", "2"):  # pipes of their own
            each["descriptors"][number] = each["descriptors"][number].partition(":")[0]
    if seen["pgid"] != expected["pgid"]:
        assert seen["pgid"] > 0
    assert seen == expected
    assert seen["oom"] == "321\n"
    assert seen["descriptors"]["42"].endswith("/kept")
    assert wrapped.stderr == bare.stderr == ""


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_CTYPE": "POSIX", "LANG": "xx_YY"}])
def test_only_our_variables_are_added(
    keeper: Scopekeeper, session: str, locale: dict[str, str]
) -> None:
    given = {**BARE, **locale, "EMPTY": "", "PYTHONHOME": "/nowhere", "LD_BIND_NOW": "1"}
    process = keeper.member("-s", session, "--", *FOREVER, env=given)
    seen = environment_of(process.pid)
    assert {k: v for k, v in seen.items() if not k.startswith(OURS)} == given
    ours = {k: v for k, v in seen.items() if k.startswith(OURS)}
    scope, leaf = cgroup_of(process.pid).split("/")[-2:]
    assert ours == {
        "SCOPEKEEPER_SESSION": session,
        "SCOPEKEEPER_LANE": "main",
        "SCOPEKEEPER_KIND": "mcp",
        "SCOPEKEEPER_SCOPE": scope,
        "SCOPEKEEPER_MEMBER": leaf,
    }


def test_bytes_that_are_no_text_come_through(keeper: Scopekeeper, session: str) -> None:
    odd = b"\xff\xfe=\x80 \n$HOME %d"
    done = subprocess.run(
        [*map(os.fsencode, keeper.argv("-s", session)), b"--", b"printf", b"%s|", odd, b"", b"$X"],
        capture_output=True,
        timeout=120,
        env={os.fsencode(k): os.fsencode(v) for k, v in BARE.items()} | {b"\xf0": b"\xff"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, odd + b"||$X|", b"")


def test_a_very_long_command_line_comes_through(keeper: Scopekeeper, session: str) -> None:
    words = ["x" * 100_000] * 10 + ["y"] * 5_000
    done = keeper.run("-s", session, "--", "sh", "-c", 'echo "$# $10"', "sh", *words)
    assert (done.returncode, done.stdout) == (0, "5010 " + "x" * 100_000 + "0\n")


@pytest.mark.parametrize("status", [0, 1, 2, 125, 126, 127, 128, 255])
def test_the_exit_status_is_the_commands(keeper: Scopekeeper, session: str, status: int) -> None:
    assert keeper.run("-s", session, "--", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT", "SIGPIPE", "SIGSEGV", "SIGXFSZ"])
def test_death_by_a_signal_is_seen_as_such(keeper: Scopekeeper, session: str, name: str) -> None:
    done = keeper.run("-s", session, "--", "sh", "-c", f"ulimit -c 0; kill -{name[3:]} $$")
    assert done.returncode == -getattr(signal, name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_pid_reaches_the_command(
    keeper: Scopekeeper, session: str, number: signal.Signals
) -> None:
    script = (
        f"trap 'echo caught; exit 7' {number.name[3:]}; echo ready; while :; do sleep 0.01; done"
    )
    process = keeper.start("-s", session, "--", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.stdout.read() == b"caught\n"
    assert process.wait() == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_launch_ends_it_as_it_would_end_the_command(
    keeper: Scopekeeper, session: str, number: signal.Signals
) -> None:
    statuses = set()
    for delay_ms in range(0, 40, 2):
        process = keeper.start("-s", session, "--", *FOREVER, stderr=subprocess.DEVNULL)
        if number == signal.SIGINT:
            # the interpreter handles it in its own way while it starts: nothing of ours runs yet
            eventually(lambda pid=process.pid: "scopekeeper.slice" in cgroup_of(pid), 60, 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay_ms / 1000)
        process.send_signal(number)
        statuses.add(process.wait(60))
    assert statuses == {-number}


def test_pipes_are_the_commands(keeper: Scopekeeper, session: str) -> None:
    data = os.urandom(1 << 20)
    done = subprocess.run(
        keeper.argv("-s", session, "--", "cat"), input=data, capture_output=True, timeout=120
    )
    assert (done.stdout, done.stderr) == (data, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_stay_closed(
    keeper: Scopekeeper, session: str, closed: str, tmp_path: Path
) -> None:
    argv = " ".join(f"'{word}'" for word in keeper.argv("-s", session))
    # $$ is the command itself: its own descriptors, seen by a child that has others
    look = f'for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && echo $n; done > "{tmp_path}/$1"; exit 3'
    for name, wrapper in (("bare", ""), ("wrapped", f"{argv} --")):
        script = f"exec {wrapper} sh -c '{look}' sh {name} {closed}"
        assert subprocess.run(["sh", "-c", script]).returncode == 3
    assert (tmp_path / "wrapped").read_text() == (tmp_path / "bare").read_text()


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_failures_keep_their_exit_status_where_nobody_can_read_them(
    keeper: Scopekeeper, session: str, stderr: str
) -> None:
    statuses = []
    for arguments in (f"-s {session} -- /nonexistent", f"-s {session} -- /etc", "-s '' -- true"):
        script = f"exec {PROGRAM} run {arguments} {stderr}"
        statuses.append(subprocess.run(["sh", "-c", script]).returncode)
    assert statuses == [127, 126, 125]


def test_a_warning_that_nobody_can_read_does_not_stop_the_command(
    keeper: Scopekeeper, session: str
) -> None:
    keeper.member("-s", session, "--", *FOREVER)
    script = f"exec {PROGRAM} run -s {session} --tasks-max 77 -- sh -c 'exit 9' 2>&-"
    assert subprocess.run(["sh", "-c", script]).returncode == 9


def ignored_by_command(keeper: Scopekeeper, session: str, prefix: list[str]) -> tuple[int, int]:
    """Return the ignored signals of a command, bare and wrapped, started through a prefix."""
    found = []
    for wrapper in ([], keeper.argv("-s", session, "--")):
        done = subprocess.run(
            [*prefix, *wrapper, "sed", "-n", "s/^SigIgn:.//p", "/proc/self/status"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        found.append(int(done.stdout, 16))
    return found[0], found[1]


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param([], id="from Python"),
        pytest.param(["sh", "-c", 'trap "" PIPE; "$@"; exit', "sh"], id="from a shell, ignored"),
        pytest.param(["bash", "-c", 'trap "" PIPE; "$@"; exit', "sh"], id="from bash, ignored"),
        pytest.param(["sh", "-c", 'trap "" HUP INT USR1; exec "$@"', "sh"], id="nohup and more"),
        pytest.param(["sh", "-c", '"$@"; exit', "sh"], id="from a shell"),
    ],
)
def test_ignored_signals_stay_as_they_were(
    keeper: Scopekeeper, session: str, prefix: list[str]
) -> None:
    bare, wrapped = ignored_by_command(keeper, session, prefix)
    assert wrapped == bare


def test_no_signal_is_blocked_or_caught_by_what_was_before(
    keeper: Scopekeeper, session: str
) -> None:
    process = keeper.member("-s", session, "--", *FOREVER)
    assert signal_set(process.pid, "SigBlk") == 0
    assert signal_set(process.pid, "SigCgt") == 0
