"""A plugin for pytest: ``--tally FILE`` has one JSON line for each report, as it comes.

What a pytest that died had done until then is in the file; only one that came to its end has the
last line, which says how it ended.
"""

import json
from pathlib import Path

import pytest


class Tally:
    """Writes down outcomes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("")

    def _tell(self, **fields: object) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(fields) + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "passed" and report.when != "call":
            return
        why = ""
        if isinstance(report.longrepr, tuple):
            why = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            why = report.longreprtext
        elif hasattr(report, "wasxfail"):
            why = f"known to fail: {report.wasxfail}"
        self._tell(id=report.nodeid, when=report.when, outcome=report.outcome, why=why)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self._tell(id=report.nodeid, when="collect", outcome=report.outcome, why=why)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._tell(exit=int(exitstatus))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("parts").addoption("--tally", type=Path, help="write each outcome to this file")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("tally"):
        config.pluginmanager.register(Tally(path), "tally-writer")
