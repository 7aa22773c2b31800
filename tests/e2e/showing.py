"""Prints what was counted at the end of a run of pytest, in the machine and on the host alike."""

import pytest

NAME = "e2e-tables"
PROPERTY = "openclaw table"
CLIENTS = "clients table"
TITLES = {
    PROPERTY: "OpenClaw without and with scopekeeper",
    CLIENTS: "MCP clients without and with scopekeeper",
}


class Tables:
    """Collects the tables from the reports of tests, wherever those were made."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {title: [] for title in TITLES.values()}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test was given to carry; it has it in the reports of all its phases."""
        for name, value in report.user_properties:
            if name in TITLES and report.when == "teardown" and isinstance(value, list):
                self._lines[TITLES[name]] += [*value, ""]

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Print them."""
        for title, lines in self._lines.items():
            if lines:
                terminalreporter.section(title)
                for line in lines:
                    terminalreporter.write_line(line)


def register(config: pytest.Config) -> None:
    """Have the tables printed once, whoever asks for it."""
    if not config.pluginmanager.hasplugin(NAME):
        config.pluginmanager.register(Tables(), NAME)
