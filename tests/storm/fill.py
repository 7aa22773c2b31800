"""Fills a state folder up to what is kept at most, by the code that writes it."""

import time

from scopekeeper import state
from scopekeeper.exec import run
from scopekeeper.exec.log import Log
from scopekeeper.exec.run import Ended, Run
from scopekeeper.history.bounds import BOUNDS
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.proc import boot_id
from scopekeeper.scope import names
from scopekeeper.scope.reason import Reason

RUNS = 1000
"""As many ended runs are kept (exec.log_retention)."""
_ARGV = ("sh", "-c", 'echo $$ >"$1"; exec cat', "sh", "/lab/out/run/storm/lives/life.0000/ready.0")


def main() -> None:
    """Fill it."""
    now, boot = time.time_ns() // 1000, boot_id()
    ends = []
    for number in range(BOUNDS.rows):
        session, at = f"fill:{number // 3}", now - 1000 * (BOUNDS.rows - number)
        ends.append(End(
            f"{number:08x}", at - 10**6, at, session, "main", f"mcp{number % 3}",
            Reason.STOPPED, "asked for by python (pid 4711, user lab)", kind="mcp",
            lifetime="gateway", unit=names.unit_name(session, "main"), pid=4711, argv=_ARGV,
            owner="process 4711 (python)", boot_id=boot, cpu_usec=5000, processes=1, seen=True,
        ))  # fmt: skip
    HistoryStore(state.make()).write(ends)
    for number in range(RUNS):
        at = now - 1000 * (RUNS - number)
        ended = Ended(at, Reason.EXITED.value, "exit status 0", 0, output="building\n")
        known = Run(f"{number:08x}", f"fill:{number}", "main", "exec0", _ARGV, at - 10**6, boot,
                    tty=True, pid=4711, start_time=1, ended=ended)  # fmt: skip
        run.save(known)
        log = Log(known.folder, known.log_max)
        log.write(b"building\r\n")
        log.close()


if __name__ == "__main__":
    main()
