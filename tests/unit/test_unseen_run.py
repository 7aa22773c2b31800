"""A run so short that its keeper never saw its scope: its end is that of the member it was."""

import asyncio
import subprocess

from scopekeeper.exec.log import Log
from scopekeeper.history import launch_ledger
from scopekeeper.keeper import notices
from scopekeeper.keeper.exec.live import Live
from scopekeeper.keeper.exec.runs import Runs
from scopekeeper.keeper.history_thread import HistoryThread
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.processes import Processes
from scopekeeper.kernel.proc import namespaces, start_time
from scopekeeper.scope import names
from scopekeeper.systemd.fdstore import DescriptorStore
from tests.unit.standin import a_run


def test_its_end_has_the_key_of_the_line_that_its_launch_wrote(monkeypatch, tmp_path):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(launch_ledger, "path", lambda: str(tmp_path / "launches"))
    command = subprocess.Popen(["true"])
    fields = {
        "SESSION": "s", "LANE": "main", "RUN": "1a2b3c4d", "NAME": "m1", "ID": "0a1b2c3d",
        "CGROUP": f"/x.slice/{names.unit_name('s', 'main', '1a2b3c4d')}", "PID": str(command.pid),
        "START": start_time(command.pid), "STARTED": "5", "NAMESPACES": namespaces(),
    }  # fmt: skip
    launch_ledger.append(launch_ledger.line(fields))
    command.wait()
    told: list[notices.Notice] = []

    async def settle() -> None:
        loop = asyncio.get_running_loop()
        jobs = Jobs(loop, lambda: None)
        ended = asyncio.Event()

        def tell(notice: notices.Notice) -> None:
            told.append(notice)
            ended.set()

        runs = Runs(
            Processes(loop), DescriptorStore(0), tell, lambda *_: None, lambda: None, jobs,
            HistoryThread(loop),
        )  # fmt: skip
        run = a_run(pid=command.pid)
        run.folder.mkdir(parents=True)
        live = Live(run, Log(run.folder, run.log_max))
        runs.live[run.id] = live
        runs._settle(live)
        async with asyncio.timeout(60):
            await ended.wait()

    asyncio.run(settle())
    (ended,) = [each for each in told if isinstance(each, notices.MemberEnded)]
    assert (ended.end.member_id, ended.end.started) == ("0a1b2c3d", 5)
