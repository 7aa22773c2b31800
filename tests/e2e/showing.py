"""Prints what was counted at the end of a run of pytest, in the machine and on the host alike."""

import pytest

NAME = "openclaw-tables"
PROPERTY = "openclaw table"


class Tables:
    """Collects the tables from the reports of tests, wherever those were made."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test was given to carry; it has it in the reports of all its phases."""
        for name, value in report.user_properties:
            if name == PROPERTY and report.when == "teardown" and isinstance(value, list):
                self._lines += [*value, ""]

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Print them."""
        if self._lines:
            terminalreporter.section("OpenClaw without and with scopekeeper")
            for line in self._lines:
                terminalreporter.write_line(line)


def register(config: pytest.Config) -> None:
    """Have the tables printed once, whoever asks for it."""
    if not config.pluginmanager.hasplugin(NAME):
        config.pluginmanager.register(Tables(), NAME)
