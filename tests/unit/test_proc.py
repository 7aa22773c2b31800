"""What procfs says about a process is read the same way everywhere."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scopekeeper.kernel import mounts, proc

FIELDS = 50
"""Of /proc/PID/stat from the state on, as Linux 5.14 to 6.18 write them."""


def stat_text(name: str, **values: int | str) -> str:
    """Return a line of /proc/PID/stat; values by the field's number in proc_pid_stat(5)."""
    fields = [str(number) for number in range(3, 3 + FIELDS)]
    for key, value in values.items():
        fields[int(key.removeprefix("field")) - 3] = str(value)
    return f"42 ({name}) {' '.join(fields)}\n"


@given(st.text(max_size=15))
@example(") Z 1 1 1")
@example(") ")
@example("a\nb) R 0")
@example("((")
def test_no_name_confuses_the_parser(name: str) -> None:
    found = proc.Stat(
        stat_text(name, field3="S", field4=7, field5=8, field20=3, field22=99, field52=9)
    )
    assert found.name == name
    assert (found.state, found.parent, found.group) == ("S", 7, 8)
    assert (found.start_time, found.wait_status, found.has_ended) == (99, 9, False)


@pytest.mark.parametrize(
    ("state", "threads", "has_ended"),
    [("R", 1, False), ("D", 1, False), ("T", 1, False), ("Z", 1, True), ("X", 0, True),
     ("Z", 2, False)],
)  # fmt: skip
def test_a_process_has_ended_when_no_thread_of_it_is_left(
    state: str, threads: int, has_ended: bool
) -> None:
    found = proc.Stat(stat_text("x", field3=state, field20=threads))
    assert found.has_ended is has_ended


def test_a_child_named_to_mislead_is_read_right(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = (
        "import time\nopen('/proc/self/comm', 'w').write(') Z 1 1\\n(')\n"
        f"open({str(ready)!r}, 'w').close()\ntime.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        try:
            while not ready.exists():
                time.sleep(0.01)
            found = proc.stat_of(child.pid)
            assert found is not None
            assert found.parent == os.getpid()
            assert proc.comm(child.pid) == ") Z 1 1\n("
            began = proc.start_time(child.pid)
            assert proc.runs(child.pid, began)
            assert not proc.runs(child.pid, int(began) + 1)
        finally:
            child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        zombie = proc.stat_of(child.pid)
        assert zombie is not None
        assert zombie.has_ended
        assert zombie.wait_status == signal.SIGKILL
        assert not proc.runs(child.pid, began)
    assert proc.stat_of(child.pid) is None
    assert not proc.runs(child.pid, began)


def test_what_cannot_be_read_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(proc, "read", refuse)
    with pytest.raises(PermissionError):
        proc.stat_of(1)
    with pytest.raises(PermissionError):
        proc.runs(1, 1)


def test_the_environment_is_read_whole() -> None:
    values = {f"V{number}": "x" * 100_000 for number in range(12)}
    with subprocess.Popen(["sleep", "1000"], env={"PATH": os.environ["PATH"], **values}) as child:
        try:
            while not (raw := proc.environment(child.pid)):
                time.sleep(0.01)  # it is empty in the middle of execve(2)
            entries = raw.split(b"\0")
        finally:
            child.kill()
    assert all(f"{key}={value}".encode() in entries for key, value in values.items())


def test_boot_id_and_clock_are_those_of_the_kernel() -> None:
    assert proc.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= proc.boottime() / 1e6 + 1e-6 <= time.clock_gettime(time.CLOCK_BOOTTIME) + 1e-6


def test_every_process_is_listed_and_no_thread_is_counted_as_one() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    found = set(proc.pids())
    over.set()
    thread.join()
    assert {1, os.getpid()} <= found
    assert thread.native_id not in found


MOUNTINFO = r"""
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:22 / /mnt/with\040space\011and\134 rw shared:2 master:3 - cgroup2 cgroup rw
25 22 0:23 / /mnt/\134040 rw - tmpfs tmpfs rw
""".lstrip()


def test_mount_points_are_unescaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "read", lambda _: MOUNTINFO)
    monkeypatch.setattr(proc, "exists", lambda _: False)
    assert list(proc.mounts()) == [
        ("/", "ext4"), ("/proc", "proc"), ("/mnt/with space\tand\\", "cgroup2"),
        ("/mnt/\\040", "tmpfs"),
    ]  # fmt: skip
    assert proc.mount_point() == "/mnt/with space\tand\\"
    assert mounts.above("/mnt/with space\tand\\/x") == "/mnt/with space\tand\\"
    assert mounts.inside("/mnt") == ["/mnt/with space\tand\\", "/mnt/\\040"]


@pytest.mark.parametrize(
    ("path", "folder", "within"),
    [("/a/b", "/a", True), ("/a", "/a", True), ("/ab", "/a", False), ("/a", "/a/b", False),
     ("/a", "/", True), ("/a/b", "/a/", True), ("", "/", False), ("", "", False)],
)  # fmt: skip
def test_a_path_is_within_a_folder_by_whole_names(path: str, folder: str, within: bool) -> None:
    assert mounts.is_within(path, folder) is within
