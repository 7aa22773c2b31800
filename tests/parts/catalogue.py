"""The parts of the tests: in which machine, what for, how long, and what runs them.

Those that are ``first`` are ``make test``. All of them are ``make test-all``, in which every test
on a real systemd is run as both users on both Debians: what ``make test`` runs of a machine and
what it leaves are two parts, which share no test. The order is that in which ``.ci/run`` goes on
after ``make test``.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.clients.known import CLIENTS

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-q")
TALLY = ("-p", "tests.parts.tally", "--tally")
# A test that hangs is ended by then; one on a machine that others load is not.
TEST_LIMIT_S = 900
MACHINE_LIMIT_S = 5400  # for all the tests of one user; emulated, they take ten times longer
ALONE = 99  # OpenClaw gives up on its own database after seconds of waiting on a loaded machine
PATIENT = ("--timeout", str(TEST_LIMIT_S))

# What is to run where this does, and not in machines of the lab.
HERE = (
    "not systemd and not root and not openclaw and not prometheus and not reload and not deb "
    "and not builds and not browser and not oomd"
)
SYSTEMD = "(systemd or root) and not controllers"
# What `make test` runs on a second Debian, and as root; it runs all but what is long as the user.
EVERYWHERE = "core and not long"
AS_ROOT = "both and not long"
ROOTS_OWN = "(root or both) and not long"


@dataclass(frozen=True, slots=True)
class Part:
    """Commands, each after the one before has passed; the last one may be a pytest that tallies.

    ``minutes`` is how long it takes beside others on two processors, with what it needs to be
    fetched and built. ``weight`` is how much of the machine it takes: two for each processor, and
    one more, is what there is (``running.default_capacity``).
    """

    name: str
    where: str
    about: str
    minutes: float
    argv: tuple[tuple[str, ...], ...]
    first: bool = False
    weight: int = 1
    is_pytest: bool = True
    counts: bool = True
    goes_on: bool = False
    """Whether its later commands are run also after one that has failed."""

    def commands(self, tally: str) -> list[tuple[str, ...]]:
        """Return what to run; the pytest tells ``tally`` of its tests."""
        *before, last = self.argv
        return [*before, (*last, *TALLY, tally) if self.is_pytest else last]


def machine(*specs: str, jobs: int = 2) -> tuple[str, ...]:
    """Return the pytest that boots machines of the lab, and runs nothing here."""
    asked = [word for spec in specs for word in ("--lab", spec)]
    limits = ("--lab-jobs", str(jobs), "--lab-timeout", str(MACHINE_LIMIT_S))
    return (*PYTEST, "-p", "tests.lab.plugin", "--lab-only", *limits, *asked, "tests/lab")


def inner(marks: str, *more: str) -> str:
    """Return the arguments of a machine's pytest, as one word."""
    return " ".join(["-m", f'"{marks}"', *PATIENT, *more])


def own(*argv: str) -> tuple[str, ...]:
    """Return a command as whoever the checkout belongs to: it leaves caches there."""
    if os.geteuid() == 0 and (uid := CHECKOUT.stat().st_uid):
        gid = CHECKOUT.stat().st_gid
        who = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
        return (*who, *argv)
    return argv


def rest(marks: str) -> str:
    """Return what ``marks`` leaves of a machine's tests."""
    return f"{SYSTEMD} and not ({marks})"


def openclaw(name: str, version: str) -> Part:
    """Return the part that plays one version of the real OpenClaw."""
    argv = (*machine(jobs=1), "-p", "tests.e2e.plugin", "--openclaw", version)
    about = f"the real OpenClaw {version}"
    return Part(name, "trixie nspawn user", about, 7, (argv,), weight=ALONE)


def client(name: str, title: str) -> Part:
    """Return the part that plays every end of one real MCP client."""
    argv = (*machine(jobs=1), "-p", "tests.e2e.clients.plugin", "--client", name)
    about = f"the real {title}, all its ends"
    return Part(f"clients-{name}", "trixie nspawn user", about, 12, (argv,), weight=2)


def suite(name: str) -> tuple[Part, ...]:
    """Return everything on one of the lab's systemd that ``make test`` does not know."""
    both = machine(f"{name}:nspawn:root+user={inner(SYSTEMD)}")
    return (
        Part(name, f"{name} nspawn root+user", "all that needs no controllers", 30, (both,)),
        virtual(name),
        unit(name),
    )


def virtual(name: str) -> Part:
    """Return the part in a virtual machine: what a container can not show."""
    argv = machine(f"{name}:vm:root+user={inner('controllers')}")
    about = "limits, out of memory, power cuts, clocks"
    return Part(f"{name}-vm", f"{name} vm root+user", about, 11, (argv,), weight=3)


def unit(name: str) -> Part:
    """Return the unit tests with a suite's Python."""
    argv = machine(f"unit@{name}:nspawn:user={' '.join((*PATIENT, 'tests/unit'))}")
    return Part(f"{name}-unit", f"{name} nspawn user", "unit tests with its Python", 5, (argv,))


# the files whose rounds `--thorough` asks for
RACES = (
    *("tests/cgroup/test_cgroup_end.py", "tests/cgroup/test_cgroup_launch.py"),
    "tests/gateway/test_stdio_client.py",
    *("tests/systemd/test_exec.py", "tests/systemd/test_keeper_life.py"),
    *("tests/systemd/test_keeper_replaced.py", "tests/systemd/test_ledger.py"),
    *("tests/systemd/test_place.py", "tests/systemd/test_race.py", "tests/systemd/test_reexec.py"),
)
FAULTS = tuple(
    f"tests/systemd/test_faults_{each}.py" for each in ("bus", "manager", "reload", "room")
)
DEB = [
    word
    for name in ("bookworm", "trixie")
    for word in ("--lab", f"{name}-deb:nspawn:root:{CHECKOUT}/dist:/srv/deb=-m deb tests/deb")
]
BUILD_DEB = (PYTHON, "-m", "tests.lab", "deb")
VAGRANT = (PYTHON, "-m", "tests.vagrant", "test")

PARTS: tuple[Part, ...] = (
    Part(
        "lint", "here", "ruff", 0.2,
        (own(PYTHON, "-m", "ruff", "check", "--quiet", "."),
         own(PYTHON, "-m", "ruff", "format", "--check", "--quiet", ".")),
        first=True, is_pytest=False, counts=False,
    ),
    Part(
        "types", "here", "mypy", 1, (own(PYTHON, "-m", "mypy"),),
        first=True, is_pytest=False, counts=False,
    ),
    Part(
        "unit", "here", "what needs no machine of its own", 4,
        ((*PYTEST, *PATIENT, "-m", f"{HERE} and not long", "tests"),), first=True,
    ),
    Part(
        "trixie-user-1", "trixie nspawn user", "all but what is long, first half", 5,
        (machine(f"half1@trixie:nspawn:user={inner(f'{SYSTEMD} and not long', '--shard 1/2')}"),),
        first=True,
    ),
    Part(
        "trixie-user-2", "trixie nspawn user", "its second half", 5,
        (machine(f"half2@trixie:nspawn:user={inner(f'{SYSTEMD} and not long', '--shard 2/2')}"),),
        first=True,
    ),
    Part(
        "trixie-root", "trixie nspawn root", "the heart of the main job, what only root can", 3,
        (machine(f"trixie:nspawn:root={inner(f'{SYSTEMD} and {ROOTS_OWN}')}"),),
        first=True,
    ),
    Part(
        "bookworm-user", "bookworm nspawn user", "the main job", 3,
        (machine(f"bookworm:nspawn:user={inner(f'{SYSTEMD} and {EVERYWHERE}')}"),),
        first=True,
    ),
    Part(
        "bookworm-root", "bookworm nspawn root", "the heart of the main job", 2,
        (machine(f"bookworm:nspawn:root={inner(f'{SYSTEMD} and {AS_ROOT}')}"),),
        first=True,
    ),
    # from here on: what `make test` leaves; first those tests that no other part has
    Part(
        "unit-rest", "here", "what unit leaves: packaging, edited files, the tests of the tests", 6,
        ((*PYTEST, *PATIENT, "-m", f"{HERE} and long", "tests"),),
    ),
    Part(
        "trixie-user-rest-1", "trixie nspawn user", "what is long, first half", 15,
        (machine(f"rest1@trixie:nspawn:user={inner(f'{SYSTEMD} and long', '--shard 1/2')}"),),
    ),
    Part(
        "trixie-user-rest-2", "trixie nspawn user", "its second half", 15,
        (machine(f"rest2@trixie:nspawn:user={inner(f'{SYSTEMD} and long', '--shard 2/2')}"),),
    ),
    virtual("trixie"),
    Part(
        "deb", "both Debians, nspawn root", "the .deb, installed, used and purged", 8,
        (BUILD_DEB,
         (*PYTEST, "-p", "tests.lab.plugin", "--lab-timeout", str(MACHINE_LIMIT_S), *DEB,
          *PATIENT, "-m", "builds", "tests/deb")),
        weight=2,
    ),
    Part(
        "browser", "trixie nspawn user", "the page of report in a real Chromium, clicked", 8,
        (machine("trixie-browser:nspawn:user=-m browser tests/browser"),),
    ),
    unit("trixie"),  # beside the machine that is emulated, and before the part that runs alone
    openclaw("openclaw", "2026.9.6"),
    Part(
        "oomd", "trixie vm root+user", "whom systemd-oomd kills, and what the history has", 12,
        (machine(f"trixie-oomd:vm:root+user={inner('oomd')}"),), weight=3,
    ),
    Part(
        "trixie-root-rest", "trixie nspawn root", "what trixie-root leaves", 30,
        (machine(f"rest@trixie:nspawn:root={inner(rest(ROOTS_OWN))}"),),
    ),
    Part(
        "bookworm-user-rest", "bookworm nspawn user", "what bookworm-user leaves", 30,
        (machine(f"rest@bookworm:nspawn:user={inner(rest(EVERYWHERE))}"),),
    ),
    Part(
        "bookworm-root-rest", "bookworm nspawn root", "what bookworm-root leaves", 30,
        (machine(f"rest@bookworm:nspawn:root={inner(rest(AS_ROOT))}"),),
    ),
    virtual("bookworm"),
    unit("bookworm"),
    *suite("forky"),
    *suite("bookworm-backports"),
    openclaw("openclaw-2026.4", "2026.4.15"),
    *(client(each.name, each.title) for each in CLIENTS.values()),
    Part(
        "prometheus", "trixie nspawn root+user", "a real Prometheus reads the metrics", 3,
        ((*machine(jobs=1), "-p", "tests.prometheus.plugin", "--prometheus"),),
    ),
    Part(
        "ansible", "trixie nspawn root", "a real Ansible plays the role of examples/", 4,
        (BUILD_DEB, (*machine(jobs=1), "-p", "tests.ansible.plugin", "--ansible")),
    ),
    Part(
        "races", "trixie nspawn root+user", "all rounds of the tests of races", 15,
        (machine(f"races@trixie:nspawn:root+user={inner(SYSTEMD, '--thorough', *RACES)}"),),
    ),
    Part(
        "crash", "trixie nspawn user", "300 kills and failed calls at points of a new seed", 25,
        ((PYTHON, "-m", "tests.proof", "lab", "crash", "--count", "300", "--keep"),),
        is_pytest=False,
    ),
    Part(
        "faults", "trixie nspawn root+user", "the bus, systemd and /run fail; 1,000 launches", 30,
        (machine(f"faults@trixie:nspawn:root+user={inner(SYSTEMD, '--thorough', *FAULTS)}"),),
    ),
    Part(
        "model", "trixie nspawn user", "300 random steps beside a model of what must exist", 15,
        ((PYTHON, "-m", "tests.model", "lab", "--steps", "300", "--keep"),),
        is_pytest=False,
    ),
    Part(
        "vagrant-deb", "trixie, emulated", "vagrant/ with the .deb", 40,
        (BUILD_DEB, (*VAGRANT, "trixie", "--from=deb", "--", "--quick")),
        weight=3, is_pytest=False,
    ),
    Part(
        "vagrant-pip", "bookworm, emulated", "vagrant/ with pip", 40,
        ((*VAGRANT, "bookworm", "--from=pip", "--", "--quick"),),
        weight=3, is_pytest=False,
    ),
)  # fmt: skip


def names() -> list[str]:
    """Return the names of the parts."""
    return [part.name for part in PARTS]


def named(wanted: Sequence[str]) -> tuple[Part, ...]:
    """Return parts by name, in their order; KeyError has one that there is not."""
    for name in wanted:
        if name not in names():
            raise KeyError(name)
    return tuple(part for part in PARTS if part.name in wanted)
