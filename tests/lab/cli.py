"""The command line: ``python -m tests.lab``."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import deb, image, rundir, session, suites
from .host import NO_VERDICT_STATUS, Home, LabError, remove_tree
from .machine import Watch
from .payload import Job, Work, bind
from .spec import RELAYED_PYTEST, USERS


def note(message: str) -> None:
    """Say something about the lab itself, apart from what the machine says."""
    print(f"lab: {message}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The options of every command; what follows ``--`` is split off before."""
    top = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description="Boot a Debian machine with a real systemd and run something in it.",
    )
    top.set_defaults(root=False, user=False)
    commands = top.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build a suite's image, unless it is cached")
    build.add_argument("--force", action="store_true", help="build even if it is cached")
    test = commands.add_parser("test", help="run pytest in a machine: test SUITE [-- ARG...]")
    test.add_argument("--root", action="store_true", help="as root (the default)")
    test.add_argument("--user", action="store_true", help="in user lab's service manager")
    run = commands.add_parser("run", help="run a command: run SUITE -- COMMAND ARG...")
    run.add_argument("--user", action="store_true", help="in user lab's service manager")
    shell = commands.add_parser("shell", help="a root shell in a machine")
    for command in (build, test, run, shell):
        command.add_argument("suite", choices=[suite.name for suite in suites.SUITES])
    for command in (test, run, shell):
        kind = command.add_mutually_exclusive_group()
        kind.add_argument("--vm", dest="kind", action="store_const", const="vm", default="vm")
        kind.add_argument("--nspawn", dest="kind", action="store_const", const="nspawn")
        command.add_argument("--smp", type=int, default=2, help="a virtual machine's processors")
        command.add_argument("--timeout", type=int, default=600, help="seconds for each job")
        command.add_argument("--project", type=Path, default=Path(), help="checkout (default .)")
        command.add_argument(
            "--bind-ro",
            action="append",
            default=[],
            metavar="HOST:GUEST",
            help="have a container see a folder of the host",
        )
    package = commands.add_parser("deb", help="build the project's .deb")
    package.add_argument("--project", type=Path, default=Path(), help="checkout (default .)")
    package.add_argument("--to", type=Path, default=Path("dist"), help="folder (default dist)")
    commands.add_parser("list", help="the images in the cache")
    commands.add_parser("clean", help="remove results of ended runs and images out of date")
    return top


def main(argv: Sequence[str]) -> int:
    """Do one command; the exit status is the machine's, or the lab's own 2 or 70."""
    end_on_signals()
    split = list(argv).index("--") if "--" in argv else len(argv)
    options = parser().parse_args(argv[:split])
    try:
        return _dispatch(options, tuple(argv[split + 1 :]))
    except LabError as error:
        note(f"error: {error}")
        return error.status


def end_on_signals() -> None:
    """Have the first SIGINT or SIGTERM end this program, tidying up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    # timeout(1) sends SIGTERM twice, a terminal as often as one likes: one is enough, and none
    # may interrupt the tidying up.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _dispatch(options: argparse.Namespace, rest: tuple[str, ...]) -> int:
    home = session.prepare(note)
    match options.command:
        case "build":
            suite = suites.find(options.suite)
            image.build(suite, home, note, threading.Event(), options.force)
            return 0
        case "deb":
            stop = threading.Event()
            for path in deb.build(options.project.resolve(), options.to, home, note, stop):
                print(path)
            return 0
        case "list":
            return list_images(home)
        case "clean":
            return clean(home)
        case "shell":
            return session.shell(_request(options, ()), home, note)
        case "run":
            if not rest:
                raise LabError("say what to run: run SUITE -- COMMAND ARG...")
            return _execute(_request(options, run_jobs(options.user, rest)), home)
        case _:
            jobs = test_jobs(options.root, options.user, rest)
            return _execute(_request(options, jobs), home)


def run_jobs(user: bool, argv: tuple[str, ...]) -> tuple[Job, ...]:
    """The one job of ``run``."""
    return (Job("run", USERS["user" if user else "root"], argv),)


def test_jobs(root: bool, user: bool, args: tuple[str, ...]) -> tuple[Job, ...]:
    """One pytest for each user asked for; root's when none is."""
    names = [name for name, wanted in (("root", root), ("user", user)) if wanted] or ["root"]
    junit = "/lab/out/{}/junit.xml"
    return tuple(
        Job(name, USERS[name], (*RELAYED_PYTEST, f"--junitxml={junit.format(name)}", *args))
        for name in names
    )


def _request(options: argparse.Namespace, jobs: tuple[Job, ...]) -> session.Request:
    project = options.project.resolve()
    work = Work(jobs, options.timeout, tuple(bind(text) for text in options.bind_ro))
    return session.Request(options.suite, options.kind, work, project, options.smp)


def _execute(request: session.Request, home: Home) -> int:
    def show(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    watch = Watch(note, show, lambda event: None)
    outcome = session.execute(request, home, watch, threading.Event())
    if outcome.reason is not None:
        raise LabError(f"no verdict: {outcome.reason}", NO_VERDICT_STATUS)
    statuses = ", ".join(f"{job} exited {status}" for job, status in outcome.statuses.items())
    note(f"{request.suite} {request.kind}: {statuses}; {outcome.seconds:.1f} s")
    return next((status for status in outcome.statuses.values() if status), 0)


def list_images(home: Home) -> int:
    """Print one line for each image: name, whether it is current, what is in it."""
    current = {image.locate(suite, home).folder for suite in suites.SUITES}
    for path in sorted(home.images.glob("*/info.json")):
        state = "current" if path.parent in current else "out of date"
        info = json.loads(path.read_text())
        print(path.parent.name, state, *(f"{key}={value}" for key, value in info.items()))
    return 0


def clean(home: Home) -> int:
    """Remove the results of ended runs and every image nobody uses and no suite asks for."""
    for run in rundir.dead(home):
        remove_tree(run.folder)
    try:
        also: tuple[image.Image, ...] = (deb.locate(Path(), home),)
    except (OSError, LabError):
        also = ()  # not called in a checkout of the project
    image.remove_outdated(home, also)
    return 0
