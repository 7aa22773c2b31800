"""A gateway: starts what a plan says, and holds their pipes and terminals until it is killed.

The plan is JSON: for each start its argv, what its stdin is (pipe, pty or null), the file for its
output, and whether to wait for its end. ``up`` is written when all are started, with statuses.
"""

import json
import os
import select
import sys


def main() -> None:
    """Start everything and wait for the end."""
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    held, terminals, statuses = [], [], []
    for start in plan["starts"]:
        argv, status = start["argv"], None
        if start["stdin"] == "pty":
            pid, terminal = os.forkpty()
            if pid == 0:
                os.execvp(argv[0], argv)
            terminals.append(terminal)
        else:
            actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
            made = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            actions += [(os.POSIX_SPAWN_OPEN, fd, start["output"], made, 0o600) for fd in (1, 2)]
            ends = ()
            if start["stdin"] == "pipe":
                ends = (*os.pipe(), *os.pipe())
                actions[:2] = [(os.POSIX_SPAWN_DUP2, ends[0], 0), (os.POSIX_SPAWN_DUP2, ends[3], 1)]
                held += ends[1:3]
            pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
            for fd in ends[:1] + ends[3:]:
                os.close(fd)
            if start["waits"]:
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        statuses.append(status)
    with open(plan["up"] + ".new", "w") as file:
        json.dump(statuses, file)
    os.rename(plan["up"] + ".new", plan["up"])
    while True:
        for terminal in select.select(terminals, [], [])[0]:
            try:
                os.read(terminal, 65536)
            except OSError:
                terminals.remove(terminal)


if __name__ == "__main__":
    main()
