"""Strikes what ``strace`` cannot: one program of those that a command starts, and short writes.

``python -IS tracer.py LOG WHAT... -- PROGRAM ARGUMENT...`` becomes the program; the tracer is a
process that is not its child, as with ``strace -D``. Programs are counted by name: ``systemctl#2``
is the second ``systemctl`` that the command has started, directly or not. WHAT is one of these:

- ``record``: write down the programs with their system calls, one line ``systemctl#2 NUMBER`` each.
  What runs in a member of ours is none of them.
- ``kill systemctl#2 57``: SIGKILL to that program before its 57th call.
- ``short 1 3``: the third call 1 (write) of the command itself writes half of what it has to.

Linux gives the calls and what they are about by ptrace(2). Short writes need x86-64.
"""

import ctypes
import os
import signal
import sys
from collections import Counter

SEIZE, CONT, SYSCALL, DETACH, LISTEN = 0x4206, 7, 24, 17, 0x4208
PEEK_USER, POKE_USER, CALL_INFO = 3, 6, 0x420E
TRACE_SYSGOOD, TRACE_FORK, TRACE_VFORK, TRACE_CLONE, TRACE_EXEC = 1, 2, 4, 8, 16
EVENT_EXEC, EVENT_STOP = 4, 128
EVERYTHING = TRACE_SYSGOOD | TRACE_FORK | TRACE_VFORK | TRACE_CLONE | TRACE_EXEC
ALL_CHILDREN = 0x40000000  # __WALL
ENTRY = 1
SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)
RDX = 12 * 8  # offsetof(struct user, regs.rdx) of x86-64: how much write(2) has to write
_INFO_SIZE = 88

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    """Make a request of ptrace(2); a tracee that is gone meanwhile raises ProcessLookupError."""
    ctypes.set_errno(0)
    answer = int(_libc.ptrace(request, pid, address, data))
    if answer == -1 and (number := ctypes.get_errno()):
        raise OSError(number, os.strerror(number))
    return answer


def call_of(pid: int) -> tuple[int, int]:
    """Return the number and first argument of the call that a tracee begins; (-1, 0) at its end."""
    info = ctypes.create_string_buffer(_INFO_SIZE)
    ptrace(CALL_INFO, pid, _INFO_SIZE, ctypes.addressof(info))
    if info.raw[0] != ENTRY:
        return -1, 0
    number, first = (int.from_bytes(info.raw[at : at + 8], "little") for at in (24, 32))
    return number, first


class Tracer:
    """One command with all that it starts."""

    def __init__(self, log: int, what: list[str]) -> None:
        self.log, self.act = log, what[0]
        self.target = what[1] if self.act == "kill" else ""
        self.number = int(what[1]) if self.act == "short" else -1
        self.at = int(what[2]) if len(what) > 2 else 0
        self.programs: Counter[str] = Counter()
        self.running: dict[int, str] = {}
        """The program of each tracee; '' is the command itself, with its threads and forks."""
        self.known: set[int] = set()
        self.count = 0
        self.first = 0

    def follow(self, first: int) -> None:
        """Trace until nothing is left to be traced."""
        self.first = first
        self.known.add(first)
        self.running[first] = ""
        while self.known:
            try:
                pid, status = os.waitpid(-1, ALL_CHILDREN)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                self.known.add(pid)
                try:
                    self._stopped(pid, status >> 8 & 0xFF, status >> 16)
                except ProcessLookupError:
                    continue  # killed meanwhile: the next wait says so
            else:
                self.known.discard(pid)
                self.running.pop(pid, None)

    def _stopped(self, pid: int, number: int, event: int) -> None:
        deliver = 0
        if event == EVENT_EXEC:
            if pid == self.first and "exec" in self.programs:  # it becomes what it has launched
                self._leave(pid)
                return
            if _is_member(pid):
                self._leave(pid)
                return
            self._executed(pid)
        elif event == EVENT_STOP and number != signal.SIGTRAP:
            ptrace(LISTEN, pid)
            return
        elif number == signal.SIGTRAP | 0x80:
            self._called(pid)
        elif not event and number != signal.SIGTRAP:
            deliver = number
        ptrace(SYSCALL if self._is_watched(pid) else CONT, pid, 0, deliver)

    def _executed(self, pid: int) -> None:
        """Name what a tracee has become."""
        if pid == self.first:
            self.programs["exec"] += 1
            return
        with open(f"/proc/{pid}/comm") as file:
            name = file.read().strip().replace(" ", "_")
        self.programs[name] += 1
        self.running[pid] = f"{name}#{self.programs[name]}"

    def _program(self, pid: int) -> str:
        """Return the program of a tracee; a new thread or fork has that of its parent."""
        if pid not in self.running:
            self.running[pid] = self.running.get(self._parent(pid), "")
        return self.running[pid]

    def _parent(self, pid: int) -> int:
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        group = int(fields["Tgid"])
        return int(fields["PPid"]) if group == pid else group

    def _is_watched(self, pid: int) -> bool:
        program = self._program(pid)
        if self.act == "short":
            return pid == self.first and self.count < self.at
        return bool(program) if self.act == "record" else program == self.target

    def _called(self, pid: int) -> None:
        number, descriptor = call_of(pid)
        if number < 0:
            return
        program = self._program(pid)
        if self.act == "record":
            os.write(self.log, f"{program} {number}\n".encode())
        elif self.act == "kill":
            self.count += 1
            if self.count == self.at:
                os.kill(pid, signal.SIGKILL)
                os.write(self.log, f"struck {program} before its call {self.at}\n".encode())
        elif pid == self.first and number == self.number:
            self.count += 1
            if self.count == self.at and (size := ptrace(PEEK_USER, pid, RDX)) > 1:
                ptrace(POKE_USER, pid, RDX, size // 2)
                path = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                os.write(self.log, f"struck {size // 2} of {size} bytes of {path}\n".encode())

    def _leave(self, pid: int) -> None:
        ptrace(DETACH, pid)
        self.known.discard(pid)
        self.running.pop(pid, None)


def _is_member(pid: int) -> bool:
    with open(f"/proc/{pid}/environ", "rb") as file:
        return b"\0SCOPEKEEPER_MEMBER=" in b"\0" + file.read()


def main() -> None:
    """Become the program, beside a tracer."""
    at = sys.argv.index("--")
    log, *what = sys.argv[1:at]
    argv = sys.argv[at + 1 :]
    pid = os.getpid()
    _libc.prctl(SET_PTRACER, ANYBODY, 0, 0, 0)
    seized, tell = os.pipe()
    between = os.fork()
    if not between:
        if os.fork():
            os._exit(0)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number in (0, 1, 2):
            os.dup2(file, number)  # who reads the output of the program waits for its end alone
        ptrace(SEIZE, pid, 0, EVERYTHING)
        os.close(tell)
        Tracer(file, what).follow(pid)
        os._exit(0)
    os.waitpid(between, 0)
    os.close(tell)
    os.read(seized, 1)
    os.close(seized)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
