"""What the host's pytest is told to boot: ``[NAME@]SUITE:KIND:JOB[+JOB][:HOST:GUEST]…[=ARGS]``."""

import shlex
from dataclasses import dataclass

from . import suites
from .host import LabError
from .payload import Bind, Job, bind
from .session import KINDS

USERS = {"root": "root", "user": "lab"}
RELAYED_PYTEST = ("pytest", "-p", "no:cacheprovider", "-p", "lab_relay")


@dataclass(frozen=True, slots=True)
class Spec:
    """One machine: its suite and kind, whose pytest runs in it, and with which arguments.

    ``label`` tells it from others of its suite and kind; ``binds`` are folders that it sees.
    """

    suite: str
    kind: str
    names: tuple[str, ...]
    args: tuple[str, ...]
    label: str = ""
    binds: tuple[Bind, ...] = ()

    @property
    def title(self) -> str:
        machine = f"{self.suite}:{self.kind}"
        return f"{self.label}@{machine}" if self.label else machine

    @property
    def jobs(self) -> tuple[Job, ...]:
        argv = (*RELAYED_PYTEST, *self.args)
        return tuple(Job(name, USERS[name], argv) for name in self.names)


def parse(text: str, default_args: str) -> Spec:
    """Read one SPEC; LabError says what is wrong with it."""
    before, equals, args = text.partition("=")
    label, _, machine = before.rpartition("@")
    match machine.split(":"):
        case [suite, kind, jobs, *folders] if kind in KINDS:
            names = tuple(jobs.split("+"))
        case _:
            raise LabError(
                f"{text!r} is not [NAME@]SUITE:nspawn|vm:root|user|root+user[:HOST:GUEST]…[=ARGS]"
            )
    suites.find(suite)
    if unknown := [name for name in names if name not in USERS]:
        raise LabError(f"{text!r}: no such user: {', '.join(unknown)}; known: root, user")
    if len(set(names)) != len(names):
        raise LabError(f"{text!r} names a user twice")
    arguments = tuple(shlex.split(args if equals else default_args))
    return Spec(suite, kind, names, arguments, label, _binds(folders))


def _binds(folders: list[str]) -> tuple[Bind, ...]:
    """Read folders of the host, each followed by that of the machine."""
    return tuple(bind(":".join(folders[at : at + 2])) for at in range(0, len(folders), 2))


def parse_all(texts: list[str], default_args: str) -> tuple[Spec, ...]:
    """Read every SPEC; two of one suite, kind and name are refused."""
    specs = tuple(parse(text, default_args) for text in texts)
    titles = [spec.title for spec in specs]
    if twice := {title for title in titles if titles.count(title) > 1}:
        raise LabError(
            f"given twice: {', '.join(sorted(twice))}; join the users with +, or name one NAME@…"
        )
    return specs
