"""The inner pytest's plugin: tell every report, as one JSON line, to the lab's event file.

A pytest that is called again, since a test of it has rebooted the machine or cut its power, goes on
with that test and those after it.

It travels into the machine as the module ``lab_relay`` and must not import anything of the lab.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest


class Relay:
    """Appends events of one job to a file that the host, or a sender to it, follows."""

    def __init__(self, config: pytest.Config, path: Path, job: str, out: Path) -> None:
        self._config = config
        self._path = path
        self._job = job
        self._finished = out / "finished.txt"
        self._failed = out / "failed.txt"

    def _tell(self, event: str, **more: object) -> None:
        line = json.dumps({"event": event, "job": self._job, **more}, default=repr)
        # One write of a whole line in append mode: the guest's own lines never fall into it.
        with self._path.open("ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

    def _serialised(self, report: pytest.TestReport | pytest.CollectReport) -> Mapping[str, Any]:
        hook = self._config.hook.pytest_report_to_serializable
        return dict(hook(config=self._config, report=report))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._finished.exists():
            finished = set(self._finished.read_text().splitlines())
            left_out = [item for item in items if item.nodeid in finished]
            items[:] = [item for item in items if item not in left_out]
            self._config.hook.pytest_deselected(items=left_out)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not self._finished.exists():
            self._finished.touch()
            self._tell("collected", count=len(session.items))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._tell("collect", report=self._serialised(report))

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._tell("start", nodeid=nodeid, location=location)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tell("report", report=self._serialised(report))
        if report.failed:
            self._failed.touch()

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._tell("finish", nodeid=nodeid, location=location)
        with self._finished.open("a") as file:
            file.write(f"{nodeid}\n")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._failed.exists() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("LAB_EVENTS")
    if path:
        job = os.environ.get("LAB_JOB", "run")
        out = Path(os.environ["LAB_OUT"])
        config.pluginmanager.register(Relay(config, Path(path), job, out), "lab-relay")
