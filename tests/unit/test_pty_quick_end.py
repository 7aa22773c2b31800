"""A run whose command ends before anything looks has one end: that of its member."""

import asyncio
import dataclasses
import os
import pty
import subprocess
import time

import pytest

from scopekeeper.exec import run
from scopekeeper.history import launch_ledger, recording
from scopekeeper.keeper.exec.runs import Runs
from scopekeeper.keeper.history_thread import HistoryThread
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.notices import MemberEnded
from scopekeeper.keeper.processes import Processes
from scopekeeper.kernel.exit_status import start_of
from scopekeeper.kernel.proc import boot_id, namespaces
from scopekeeper.lifecycle import member_lines
from scopekeeper.scope import names
from scopekeeper.systemd.fdstore import DescriptorStore
from tests.unit.standin import a_run


@pytest.mark.parametrize("is_collected", [False, True])
def test_it_is_that_of_the_member_that_was_launched(monkeypatch, tmp_path, is_collected):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(launch_ledger, "path", lambda: str(tmp_path / "launches"))
    child = subprocess.Popen(["sleep", "infinity"])
    known = a_run(tty=True, boot_id=boot_id())
    unit = names.unit_name(known.session, known.lane, known.id)
    line = launch_ledger.line({
        "SESSION": "s", "LANE": "main", "CGROUP": f"/gone.slice/{unit}", "NAME": "m1",
        "PID": str(child.pid), "START": str(start_of(child.pid)), "ID": "0a1b2c3d",
        "STARTED": str(time.time_ns() // 1000), "NAMESPACES": namespaces(), "BOOT": boot_id(),
        "RUN": known.id,
    })  # fmt: skip
    told = []

    async def main():
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        def tell(notice):
            told.append(notice)
            over.set()

        runs = Runs(Processes(loop), DescriptorStore(0), tell, lambda *_: None, lambda: None,
                    Jobs(loop, lambda: None), HistoryThread(loop))  # fmt: skip
        master, slave = pty.openpty()
        os.close(slave)
        runs.hold(known, [master])
        runs.started(known.id, child.pid, start_of(child.pid), -1)
        if is_collected:  # its end is written, and its line dropped
            (each,) = member_lines.parsed(line)
            ended = time.time_ns() // 1000
            recording.keep([dataclasses.replace(each.end, ended=ended)])
        else:
            (tmp_path / "launches").write_bytes(line)
        child.kill()
        child.wait()
        await over.wait()
        assert not runs
        runs.close()

    asyncio.run(asyncio.wait_for(main(), 60))
    (notice,) = told
    assert isinstance(notice, MemberEnded)
    assert (notice.end.member_id, notice.end.leaf) == ("0a1b2c3d", "m-m1.0a1b2c3d")
    recording.keep([notice.end])
    assert recording.end_of_run(known.id, child.pid).reason.value == "signalled"
    assert run.load(known.id).ended.reason == "signalled"
