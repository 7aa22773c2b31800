"""The command line: ``python -m tests.vagrant``."""

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.lab import cli, session, suites
from tests.lab.host import LabError, remove_tree

from . import box, chroot, run


def note(message: str) -> None:
    """Say something apart from what Vagrant says."""
    print(f"vagrant: {message}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The options; what follows ``--`` is split off before."""
    top = argparse.ArgumentParser(
        prog="python -m tests.vagrant",
        description="Run vagrant/test, unmodified, in a Debian box made from a lab image.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    test = commands.add_parser("test", help="up, both suites, reload, destroy: test [-- ARG...]")
    build = commands.add_parser("build", help="build what test needs, unless it is cached")
    for command in (test, build):
        names = [suite.name for suite in suites.SUITES]
        command.add_argument("suite", nargs="?", default="trixie", choices=names)
    test.add_argument(
        "--from",
        dest="origin",
        choices=("deb", "pip"),
        default="",
        help="what to provision from (default: dist/scopekeeper_*.deb where there is one)",
    )
    test.add_argument("--timeout", type=float, default=5400.0, help="seconds for all of it")
    test.add_argument("--project", type=Path, default=Path(), help="checkout (default .)")
    commands.add_parser("clean", help="remove boxes and folders that are out of date")
    return top


def main(argv: Sequence[str]) -> int:
    """Do one command; exits as vagrant/test does, or 2 when there is no verdict."""
    cli.end_on_signals()
    split = list(argv).index("--") if "--" in argv else len(argv)
    options = parser().parse_args(argv[:split])
    try:
        return _dispatch(options, tuple(argv[split + 1 :]))
    except LabError as error:
        note(f"error: {error}")
        return 2


def _dispatch(options: argparse.Namespace, rest: tuple[str, ...]) -> int:
    home = session.prepare(note)
    stop = threading.Event()
    if options.command == "clean":
        kept = {chroot.locate(home), *(box.locate(suite, home) for suite in suites.SUITES)}
        for path in chroot.folder_of(home).glob("*"):
            if not any(path.name.startswith(each.name) for each in kept):
                remove_tree(path)
        return 0
    vagrant = chroot.build(home, note, stop)
    made = box.build(suites.find(options.suite), home, vagrant, note, stop)
    if options.command == "build":
        return 0
    request = run.Request(options.suite, options.origin, rest, options.timeout)
    return run.execute(request, home, vagrant, made, options.project.resolve(), note)
