"""What the host's pytest is told to boot: ``SUITE:KIND:JOB[+JOB][=PYTEST ARGS]``."""

import shlex
from dataclasses import dataclass

from . import suites
from .host import LabError
from .payload import Job
from .session import KINDS

USERS = {"root": "root", "user": "lab"}
RELAYED_PYTEST = ("pytest", "-p", "no:cacheprovider", "-p", "lab_relay")


@dataclass(frozen=True, slots=True)
class Spec:
    """One machine: its suite and kind, whose pytest runs in it, and with which arguments."""

    suite: str
    kind: str
    names: tuple[str, ...]
    args: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.suite}:{self.kind}"

    @property
    def jobs(self) -> tuple[Job, ...]:
        argv = (*RELAYED_PYTEST, *self.args)
        return tuple(Job(name, USERS[name], argv) for name in self.names)


def parse(text: str, default_args: str) -> Spec:
    """Read one SPEC; LabError says what is wrong with it."""
    machine, equals, args = text.partition("=")
    match machine.split(":"):
        case [suite, kind, jobs] if kind in KINDS:
            names = tuple(jobs.split("+"))
        case _:
            raise LabError(f"{text!r} is not SUITE:nspawn|vm:root|user|root+user[=PYTEST ARGS]")
    suites.find(suite)
    if unknown := [name for name in names if name not in USERS]:
        raise LabError(f"{text!r}: no such user: {', '.join(unknown)}; known: root, user")
    if len(set(names)) != len(names):
        raise LabError(f"{text!r} names a user twice")
    return Spec(suite, kind, names, tuple(shlex.split(args if equals else default_args)))


def parse_all(texts: list[str], default_args: str) -> tuple[Spec, ...]:
    """Read every SPEC; two of one suite and kind would have the same name and are refused."""
    specs = tuple(parse(text, default_args) for text in texts)
    titles = [spec.title for spec in specs]
    if twice := {title for title in titles if titles.count(title) > 1}:
        raise LabError(f"given twice: {', '.join(sorted(twice))}; join the users with +")
    return specs
