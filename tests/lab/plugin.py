"""A plugin for the host's pytest: every ``--lab SPEC`` boots a machine and is one test, and every
test of the pytest inside is reported as if it had run here.

    python -m pytest -p tests.lab.plugin --lab trixie:nspawn:root+user --lab bookworm:vm:root
"""

import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from . import reports
from .host import Home, LabError, tail
from .machine import Event, Outcome, Watch
from .payload import Work
from .session import Request, execute, prepare
from .spec import Spec, parse_all

NAME = "scopekeeper-lab"
DONE: Event = {"event": "done"}
POLL_S = 0.2
# pytest's own statuses: all passed, some failed.  Anything else is no result.
ORDINARY_STATUSES = (0, 1)


class MachineError(Exception):
    """The machine, or the pytest inside it, gave no usable result."""


@dataclass(slots=True)
class Booking:
    """One machine from its start to its end, as the main thread sees it."""

    spec: Spec
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    future: Future[Outcome] | None = None
    ran: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def verdict(self) -> str | None:
        """Why the machine's own test fails, or None."""
        assert self.future is not None
        try:
            outcome = self.future.result()
        except LabError as error:
            return str(error)
        if outcome.reason is not None:
            return f"no verdict: {outcome.reason}"
        for job, status in outcome.statuses.items():
            if status not in ORDINARY_STATUSES:
                return f"{job}: pytest exited {status}\n{tail(outcome.folder / 'out/log.txt', 60)}"
            if not self.ran.get(job):
                return f"{job}: no inner test ran ({outcome.folder / 'out/log.txt'})"
        return None


class LabItem(pytest.Item):
    """The machine itself; its inner tests are reported before it."""

    booking: Booking

    def runtest(self) -> None:
        reason = self.booking.verdict()
        if reason is not None:
            raise MachineError("\n".join([reason, *self.booking.notes]))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, MachineError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class Lab:
    """Starts the machines in threads, ``workers`` at a time, and reports from the main thread."""

    def __init__(self, config: pytest.Config, home: Home, specs: tuple[Spec, ...]) -> None:
        self._config = config
        self._home = home
        self._bookings = {spec.title: Booking(spec) for spec in specs}
        self._limit: int = config.getoption("lab_timeout")
        self._smp: int = config.getoption("lab_smp")
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(config.getoption("lab_jobs"), "lab")
        self._previous_sigterm = signal.signal(signal.SIGTERM, _interrupt)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        for title, booking in self._bookings.items():
            name = f"lab[{title}]"
            item: LabItem = LabItem.from_parent(session, name=name, nodeid=name)
            item.booking = booking
            item.add_marker(pytest.mark.timeout(0))  # the machine has limits of its own
            items.append(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        # Outside of the item's own phases nothing is captured, so that what is reported shows.
        # Machines start with the first item of theirs: the host's tests before have both cores.
        if isinstance(item, LabItem):
            self._start_all()
            self._replay(item.session, item.booking)

    def pytest_unconfigure(self) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        signal.signal(signal.SIGTERM, self._previous_sigterm)

    def _start_all(self) -> None:
        for booking in self._bookings.values():
            if booking.future is None:
                booking.future = self._pool.submit(self._run, booking)
                booking.future.add_done_callback(_announcer(booking))

    def _run(self, booking: Booking) -> Outcome:
        spec = booking.spec
        work = Work(spec.jobs, self._limit, spec.binds)
        request = Request(spec.suite, spec.kind, work, self._config.rootpath, self._smp)
        watch = Watch(booking.notes.append, lambda text: None, booking.events.put)
        return execute(request, self._home, watch, self._stop)

    def _replay(self, host: pytest.Session, booking: Booking) -> None:
        while True:
            try:
                event = booking.events.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if event is DONE:
                return
            self._report(host, booking, event)
            if host.shouldfail:  # --maxfail counts inner failures too
                raise host.Failed(host.shouldfail)
            if host.shouldstop:
                raise host.Interrupted(host.shouldstop)

    def _report(self, host: pytest.Session, booking: Booking, event: Event) -> None:
        hook = self._config.hook
        job = event.get("job", "")
        prefix = f"{booking.spec.title}:{job}"
        match event["event"]:
            case "collected":
                host.testscollected += event["count"]  # what the progress is counted against
            case "start" | "finish" as which:
                call = getattr(hook, f"pytest_runtest_log{which}")
                nodeid = reports.prefixed(prefix, event["nodeid"])
                call(nodeid=nodeid, location=reports.location(prefix, event["location"]))
            case "report" | "collect" as which:
                host.testscollected += which == "collect"
                made = reports.report(self._config, prefix, job, event["report"])
                if made.when == "call":
                    booking.ran[job] = booking.ran.get(job, 0) + 1
                hook.pytest_runtest_logreport(report=made)


def _announcer(booking: Booking) -> Callable[[Future[Outcome]], None]:
    def announce(_: Future[Outcome]) -> None:
        booking.events.put(DONE)

    return announce


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    # pytest knows how to end in order after a KeyboardInterrupt, and tears the machines down.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt("SIGTERM")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lab", "machines with a real systemd")
    group.addoption(
        "--lab",
        action="append",
        default=[],
        dest="lab_specs",
        metavar="SPEC",
        help="boot [NAME@]SUITE:nspawn|vm:root|user|root+user[:HOST:GUEST]…[=PYTEST ARGS] and run"
        " pytest in it; GUEST is then the host's folder HOST, read-only",
    )
    group.addoption(
        "--lab-args",
        default='-m "systemd or root"',
        help="what the inner pytest is given, unless the SPEC says (default: %(default)s)",
    )
    group.addoption(
        "--lab-only", action="store_true", help="run the machines, and none of the tests here"
    )
    group.addoption("--lab-jobs", type=int, default=2, help="machines at a time")
    group.addoption("--lab-timeout", type=int, default=900, help="seconds for each inner pytest")
    group.addoption("--lab-smp", type=int, default=2, help="a virtual machine's processors")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the host's own tests out; the machines are added after this."""
    if config.getoption("lab_only"):
        config.hook.pytest_deselected(items=list(items))
        items.clear()


def pytest_configure(config: pytest.Config) -> None:
    texts: list[str] = config.getoption("lab_specs")
    if not texts or config.getoption("collectonly"):
        return
    try:
        specs = parse_all(texts, config.getoption("lab_args"))
        home = prepare(lambda message: None)
    except LabError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(Lab(config, home, specs), NAME)
