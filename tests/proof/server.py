"""What members and canaries run: a process that waits, and records what happens to it.

PROOF_READY names a file for its pid, cgroup and member; PROOF_SIGNALS one for each signal that it
gets; with PROOF_STUBBORN it ignores SIGTERM; PROOF_LINES is how many lines it prints first. With
PROOF_HELPER it starts a process in a session of its own, which waits too. It exits 3 on SIGUSR1.
"""

import json
import os
import signal

UNSEEN = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGWINCH}


def helper() -> int:
    """Start the other process and return its pid."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombie is left of it
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        while True:
            signal.pause()
    return pid


def main() -> None:
    """Report itself and wait."""
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(3))
    if record := os.environ.get("PROOF_SIGNALS"):
        file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        for number in signal.valid_signals() - UNSEEN:
            signal.signal(number, lambda number, _: os.write(file, f"{number}\n".encode()))
    if "PROOF_STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for number in range(int(os.environ.get("PROOF_LINES", "0"))):
        os.write(1, f"line {number}\n".encode())
    with open("/proc/self/cgroup") as cgroups:
        (path,) = (line[3:].strip() for line in cgroups if line.startswith("0::"))
    found = {
        "pid": os.getpid(),
        "cgroup": path,
        "member": os.environ.get("SCOPEKEEPER_MEMBER", ""),
    }
    if "PROOF_HELPER" in os.environ:
        found["helper"] = helper()
    ready = os.environ["PROOF_READY"]
    with open(f"{ready}.new", "w") as written:
        json.dump(found, written)
    os.rename(f"{ready}.new", ready)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
