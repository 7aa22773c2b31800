"""Names the packages that compiling pystemd takes, before pip comes to it and fails without words.

PyPI has pystemd as source only, and the error of its build names no package. hatchling calls this
for every build of the project. It ends the build only where all of this is so:

- an installer is about to install the dependencies too: other builds may be for other machines;
- something that the compilation needs is not here;
- the installer, asked with the same options, has no pystemd already and can get no wheel of one.

What cannot be found out counts as being there.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# pip compares requires-python only after this, and here, because what follows needs it as well
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"scopekeeper: error: it needs Python 3.11 or later, and this is {sys.version.split()[0]}; "
        "install it with another one, as by: pipx install --python python3.11 ."
    )

REQUIREMENT = "pystemd>=0.11"
ASK_LIMIT_S = 60
_PASSED = re.compile(
    r"-f|-i|-p|--find-links|--index|--index-url|--default-index|--extra-index-url|--python"
)
"""Options that tell where packages come from, or where they go to; each has a value."""
_PYTHON, _PIP = re.compile(r"(python|pypy)[\d.]*"), re.compile(r"pip[\d.]*|__pip-.*")
_UV_VERBS = {"install", "sync", "add", "run", "uvx"}
"""``uvx`` calls ``uv tool uvx``."""


class Prerequisites(MetadataHookInterface):
    """Leaves the metadata as they are."""

    def update(self, metadata: dict[str, Any]) -> None:  # noqa: ARG002
        """Exit with two lines where the installation of the dependencies cannot succeed."""
        problem = refusal(Path("/proc"), os.getppid())
        if problem:
            sys.exit(f"scopekeeper: error: {problem}")


def refusal(proc: Path, parent: int) -> str:
    """Return why an installation that a process is of cannot succeed; '' if it may."""
    installer = next(filter(None, map(installation, ancestors(proc, parent))), None)
    if installer is None:
        return ""
    missing = lacking()
    if not missing or installer.has_pystemd():
        return ""
    packages = " ".join(name for name, _ in missing)
    others = " ".join(name for _, name in missing)
    said = {"apt-get": f"sudo apt install {packages}", "dnf": f"sudo dnf install {others}"}
    remedy = next((text for tool, text in said.items() if shutil.which(tool)), "")
    return (
        "pystemd is compiled when it is installed, and this machine lacks what that takes; first:\n"
        f"    {remedy or ' or '.join(said.values())}"
    )


def lacking() -> list[tuple[str, str]]:
    """Return what cannot be compiled without: names of Debian's packages, and of Fedora's."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    config = shutil.which("pkg-config")
    found = config and subprocess.run([config, "--exists", "libsystemd"], check=False)
    headers = (sysconfig.get_path(name) for name in ("include", "platinclude"))
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    return [
        names
        for names, is_there in (
            (("gcc", "gcc"), shutil.which(compiler)),
            (("libc6-dev", "glibc-devel"), any(Path("/usr/include").glob("**/stdio.h"))),
            (("pkg-config", "pkgconf-pkg-config"), config),
            (("libsystemd-dev", "systemd-devel"), found and found.returncode == 0),
            ((python, "python3-devel"), any(Path(each, "Python.h").exists() for each in headers)),
        )
        if not is_there
    ]


@dataclass(frozen=True, slots=True)
class Process:
    """What a process was started with."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    folder: str


@dataclass(frozen=True, slots=True)
class Installer:
    """A running pip or uv: ways to ask it, any of which may find pystemd, and what to tell it."""

    process: Process
    questions: tuple[tuple[str, ...], ...]

    def has_pystemd(self) -> bool:
        """Tell whether it is installed already, or a wheel can be had, or nobody can tell."""
        for question in self.questions:
            try:
                asked = subprocess.run(
                    question, env=self.process.environment, cwd=self.process.folder, check=False,
                    input=f"{REQUIREMENT}\n", text=True, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, timeout=ASK_LIMIT_S,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired):
                return True
            if asked.returncode == 0:
                return True
        return False


def ancestors(proc: Path, pid: int) -> Iterator[Process]:
    """Yield a process and those that it descends from, as far as they can be read."""
    while pid > 0:
        try:
            here = proc / str(pid)
            words = (here / "cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
            pairs = (here / "environ").read_bytes().decode("utf-8", "surrogateescape").split("\0")
            yield Process(
                tuple(words[:-1]), dict(p.split("=", 1) for p in pairs if "=" in p),
                str((here / "cwd").readlink()),
            )  # fmt: skip
            pid = int((here / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return


def installation(process: Process) -> Installer | None:
    """Return how to ask a process that installs with dependencies; None for any other one."""
    argv = process.argv
    names = [os.path.basename(word) for word in argv]
    if not argv or "--no-deps" in argv:
        return None
    if names[0] in {"uv", "uvx"}:
        words = [word for word in argv[1:] if not word.startswith("-")][:2]
        if not _UV_VERBS.intersection(words) and names[0] == "uv":
            return None
        told = _passed(argv)
        compile_ = (argv[0], "pip", "compile", "--no-deps", "--only-binary", "pystemd", *told, "-")
        if words[:1] == ["tool"] or names[0] == "uvx":
            return Installer(process, (compile_,))  # into an environment that is made for it
        python = tuple(word for word in _passed(argv, only=("-p", "--python")))
        return Installer(process, ((argv[0], "pip", "show", *python, "pystemd"), compile_))
    pip = next((at for at, name in enumerate(names[:4]) if _PIP.fullmatch(name)), 0)
    if not pip or not _PYTHON.fullmatch(names[0]) or "install" not in argv[pip:]:
        return None
    verb = argv.index("install", pip)
    told = _passed(argv[verb:])
    asked = ("--dry-run", "--no-deps", "--only-binary", "pystemd", *told, REQUIREMENT)
    return Installer(process, ((*argv[: verb + 1], *asked),))


def _passed(argv: tuple[str, ...], only: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return those of an installer's options that it is to be asked with."""
    kept: list[str] = []
    for at, word in enumerate(argv):
        name, equals, _ = word.partition("=")
        if (only and name not in only) or not (name == "--no-index" or _PASSED.fullmatch(name)):
            continue
        kept += [word] if equals or name == "--no-index" else argv[at : at + 2]
    return tuple(kept)
