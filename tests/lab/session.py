"""One run from the request to its outcome: image, payload, machine, tidying up."""

import threading
from dataclasses import dataclass
from pathlib import Path

from . import host, image, nspawn, payload, rundir, suites
from .machine import Machine, Outcome, Watch, attend
from .nspawn import Container
from .vm import VirtualMachine

KINDS = ("nspawn", "vm")


@dataclass(frozen=True, slots=True)
class Request:
    """What to boot, and what to do in it with a copy of the checkout ``project``."""

    suite: str
    kind: str
    work: payload.Work
    project: Path
    smp: int = 2


def prepare(note: host.Note) -> host.Home:
    """Check the host, sweep what killed runs left, and return the lab's home."""
    host.check()
    image.require_certificates()
    nspawn.sweep(note)
    home = host.home()
    for run in rundir.dead(home):
        rundir.discard_inputs(run)
    return home


def machine_for(request: Request, run: rundir.Run, built: image.Image, tty: bool) -> Machine:
    """The machine that the request asks for, over ``run`` and ``built``."""
    if request.kind == "vm":
        return VirtualMachine(run, built, request.smp, tty)
    return Container(run, built, tty, request.work.binds)


def _check(request: Request) -> None:
    if request.work.binds and request.kind == "vm":
        raise host.LabError("a virtual machine sees no folder of the host; use --nspawn")


def execute(request: Request, home: host.Home, watch: Watch, stop: threading.Event) -> Outcome:
    """Do the request's jobs in a machine of its own.

    An emulated kernel now and then dies as it boots, where one processor patches code that another
    executes; one that did not come up is booted once more, and that is said. So is one that died of
    it at a reboot in the middle: its tests are reported twice.
    """
    _check(request)
    built = image.build(suites.find(request.suite), home, watch.note, stop)
    with host.locked(built.lock, stop, shared=True):
        outcome = _boot(request, built, home, watch, stop)
        if request.kind == "vm" and outcome.reason is not None and _is_of_emulation(outcome):
            first = outcome.reason.partition("\n")[0]
            watch.note(f"it did not come up ({first}) and is booted once more")
            outcome = _boot(request, built, home, watch, stop)
        return outcome


def _is_of_emulation(outcome: Outcome) -> bool:
    """Tell whether a machine never came up, or died where code that is being patched was run."""
    return not outcome.booted or "Oops: int3:" in host.tail(outcome.folder / "out/console.txt", 200)


def _boot(
    request: Request, built: image.Image, home: host.Home, watch: Watch, stop: threading.Event
) -> Outcome:
    run = rundir.create(home, request.suite, request.kind)
    watch.note(f"{request.kind} {built.folder.name}; results in {run.out}")
    try:
        payload.fill(run, built, request.project, request.work, stop)
        machine = machine_for(request, run, built, tty=False)
        return attend(machine, run, request.work, watch, stop)
    finally:
        rundir.discard_inputs(run)


def shell(request: Request, home: host.Home, note: host.Note) -> int:
    """Give the terminal to a root shell in a booted machine, until it is powered off."""
    _check(request)
    stop = threading.Event()
    built = image.build(suites.find(request.suite), home, note, stop)
    with host.locked(built.lock, stop, shared=True):
        run = rundir.create(home, request.suite, request.kind)
        try:
            payload.fill(run, built, request.project, request.work, stop)
            machine = machine_for(request, run, built, tty=True)
            note("`poweroff` ends it" + ("; so does Ctrl-a x" * (request.kind == "vm")))
            try:
                return machine.start().wait()
            finally:
                machine.finish()
        finally:
            host.remove_tree(run.folder)
