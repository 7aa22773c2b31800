"""A delegated cgroup as a container has it: at the top of what is seen, and no systemd anywhere."""

import os
import subprocess
from collections.abc import Iterable

from tests import folders
from tests.machine import (
    PROGRAM,
    ROOT,
    Scopekeeper,
    environment_of,
    processes,
    scope_directories,
    text_of,
)

MOUNT = "/sys/fs/cgroup"
_KINDS = ("--mount", "--cgroup")
_MADE = (*_KINDS, *(() if ROOT else ("--user", "--map-current-user", "--keep-caps")))
_ENTERED = (*_KINDS, *(() if ROOT else ("--user", "--preserve-credentials")))
# mount(2) refuses the same file system on top of itself, which this is but for its root
_INSIDE = f"""
mount -t tmpfs -o mode=755 tmpfs /run && mount -t tmpfs tmpfs {MOUNT} || exit
mount -t cgroup2 cgroup2 {MOUNT} || exit
echo ready
exec sleep infinity
"""
_MOVED = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class Container(Scopekeeper):
    """The program where there is a cgroup to be used, and none to ask for one."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        """The cgroup that is the top one inside, as it is named outside."""
        words = ["sh", "-c", _MOVED, folder, "unshare", *_MADE, "--", "sh", "-c", _INSIDE]
        self._holder = self.popen(words, stdout=subprocess.PIPE)
        assert self._holder.stdout.readline() == b"ready\n"

    def words(self, *command: str) -> list[str]:
        """Return what executes a command inside."""
        target = ("--target", str(self._holder.pid))
        return ["sh", "-c", _MOVED, self.folder, "nsenter", *target, *_ENTERED, "--", *command]

    def do(self, *command: str, **how: object) -> subprocess.CompletedProcess[str]:
        """Do any command inside to its end."""
        how = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 60} | how
        return subprocess.run(self.words(*command), text=True, **how)  # type: ignore[call-overload]

    def call(self, *arguments: str, **how: object) -> subprocess.CompletedProcess[str]:
        return self.do(PROGRAM, *arguments, **how)

    def keepers(self) -> list[int]:
        """Return the keepers that run inside, without any that is just about to be one."""
        words = {pid: text_of(f"/proc/{pid}/cmdline").split("\0") for pid in self._pids()}
        return sorted(int(pid) for pid in words if "--standalone" in words[pid])

    def of_run(self, run: str) -> list[int]:
        """Return the processes of a run, once they are the command's."""
        scopes = [each for each in scope_directories(self.folder) if each.endswith(f"-{run}.scope")]
        found = processes(scopes[0]) if scopes else set()
        ready = all("SCOPEKEEPER_MEMBER" in environment_of(pid) for pid in found)
        return sorted(found) if ready else []

    @property
    def log(self) -> str:
        """What the keepers have said that ``exec`` started."""
        return text_of(f"{os.environ['SCOPEKEEPER_STATE']}/keeper.log")

    def _pids(self) -> Iterable[str]:
        for folder in folders.below(self.folder):
            yield from text_of(f"{folder}/cgroup.procs").split()
