"""Turn what an inner pytest told into reports of the host's own."""

from collections.abc import Mapping
from typing import Any

import pytest

CHECKOUTS = {"root": "/srv/checkout-root/", "user": "/srv/checkout-lab/"}

Location = tuple[str, int | None, str]


def prefixed(prefix: str, nodeid: str) -> str:
    """The inner test's name on the host: ``trixie:nspawn:root/tests/test_x.py::test_y``."""
    return f"{prefix}/{nodeid}"


def location(prefix: str, inner: Any) -> Location:
    """Where a test is; its last part is the headline of a failure."""
    path, line, domain = inner
    return prefixed(prefix, path), line, f"{domain} ({prefix})"


def report(
    config: pytest.Config, prefix: str, job: str, data: Mapping[str, Any]
) -> pytest.TestReport:
    """One inner report as if it had been made here.

    A file that was skipped or failed as a whole becomes a test's setup that did: the host itself
    collected nothing there.
    """
    hook = config.hook.pytest_report_from_serializable
    made: pytest.TestReport | pytest.CollectReport = hook(config=config, data=dict(data))
    if isinstance(made, pytest.CollectReport):
        where = (made.nodeid, None, made.nodeid)
        made = pytest.TestReport(made.nodeid, where, {}, made.outcome, made.longrepr, "setup")
    made.nodeid = prefixed(prefix, made.nodeid)
    made.location = location(prefix, made.location)
    # JSON knows no tuples, but pytest insists on them, above all for a skip's place and reason.
    made.sections = [(name, text) for name, text in made.sections]
    made.user_properties = [(name, value) for name, value in made.user_properties]
    if isinstance(made.longrepr, list):
        path, line, reason = made.longrepr  # the path is the machine's
        made.longrepr = (prefixed(prefix, path.removeprefix(CHECKOUTS[job])), line, reason)
    return made
