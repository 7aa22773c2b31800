"""An installation that cannot compile pystemd says which packages it wants; no other one does."""

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("click", "dbus-next", "prometheus-client", "psutil", "pyroute2", "pyte", "pystemd")
# what builds the project, without what else is installed here
BUILDS = ("pip", "hatchling", "click", "packaging", "pathspec", "pluggy", "trove_classifiers")


def found():
    return importlib.util.spec_from_file_location("hook", ROOT / "build_hooks/prerequisites.py")


@pytest.mark.parametrize("version", [(3, 8, 20), (3, 10, 13), (3, 11, 0)])
def test_an_older_python_is_refused_with_the_one_that_is_needed(monkeypatch, version):
    spec = found()
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "hook", module)
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "version", ".".join(map(str, version)) + " (main)")
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    if version >= tuple(map(int, needed.removeprefix(">=").split("."))):
        spec.loader.exec_module(module)
        return
    with pytest.raises(SystemExit) as refused:
        spec.loader.exec_module(module)
    said = f"it needs Python {needed.removeprefix('>=')} or later, and this is {sys.version[:-7]};"
    assert str(refused.value).startswith(f"scopekeeper: error: {said}")
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def hook():
    spec = found()
    module = importlib.util.module_from_spec(spec)
    sys.modules["hook"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["hook"]


def put_wheel(folder, name):
    """Write a wheel that has nothing in it."""
    path = folder / f"{name.replace('-', '_')}-99-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-99.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 99\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


class Machine:
    """An interpreter with pip and hatchling, and nothing to compile with in PATH."""

    def __init__(self, folder):
        self.wheels, self._libraries = folder / "wheels", folder / "libraries"
        self._python = folder / "venv/bin/python"
        for each in (self.wheels, self._libraries, folder / "empty"):
            each.mkdir()
        venv = [sys.executable, "-m", "venv", "--without-pip", folder / "venv"]
        subprocess.run(venv, check=True)
        for name in BUILDS:
            (self._libraries / name).symlink_to(Path(sysconfig.get_path("purelib"), name))
        for name in NEEDED:
            if name != "pystemd":
                put_wheel(self.wheels, name)
        self._environment = {
            "PATH": str(folder / "empty"), "PYTHONPATH": str(self._libraries),
            "PIP_CONFIG_FILE": os.devnull, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def have(self, wheel):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(self._libraries)

    def install(self):
        """Have pip work out the installation of the checkout, without a network."""
        offline = ("--no-index", "--find-links", str(self.wheels), "--no-build-isolation")
        return subprocess.run(
            [self._python, "-m", "pip", "install", "--dry-run", *offline, ROOT],
            env=self._environment, capture_output=True, text=True,
        )  # fmt: skip


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_pip_says_which_packages_are_to_be_installed_first(machine):
    done = machine.install()
    assert done.returncode != 0
    lines = [line.strip() for line in done.stderr.splitlines()]
    (at,) = [at for at, line in enumerate(lines) if line.startswith("scopekeeper: error: ")]
    assert "pystemd is compiled" in lines[at]
    apt, dnf = re.findall(r"sudo (?:apt|dnf) install ([\w. -]+?)(?= or |$)", lines[at + 1])
    # headers may be there, no program is
    assert {"gcc", "pkg-config", "libsystemd-dev"} <= set(apt.split())
    assert {"gcc", "pkgconf-pkg-config", "systemd-devel"} <= set(dnf.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["a wheel", "installed"])
def test_pip_goes_on_where_pystemd_can_be_had_without_compiling(machine, where, tmp_path):
    wheel = put_wheel(machine.wheels if where == "a wheel" else tmp_path, "pystemd")
    if where == "installed":
        machine.have(wheel)
    done = machine.install()
    assert (done.returncode, "Would install" in done.stdout) == (0, True), done.stderr


ASKED = ("--dry-run", "--no-deps", "--only-binary", "pystemd")
COMPILED = ("pip", "compile", "--no-deps", "--only-binary", "pystemd")


@pytest.mark.parametrize(
    ("line", "questions"),
    [
        ("python3 -m build", None),
        ("python3 -m pip wheel .", None),
        ("python3 -m pip install --no-deps .", None),
        ("python3 -m hatchling build", None),
        ("uv build", None),
        ("make install", None),
        ("vim pip install", None),
        ("python -m pip install -q .",
            [("python", "-m", "pip", "install", *ASKED, "pystemd>=0.11")]),
        (
            "python3.11 /v/bin/pip3.11 --python x install -f w --index-url=u . --no-index",
            [("python3.11", "/v/bin/pip3.11", "--python", "x", "install", *ASKED,
              "-f", "w", "--index-url=u", "--no-index", "pystemd>=0.11")],
        ),
        ("python3.11 /x/__pip-runner__.py install .",
            [("python3.11", "/x/__pip-runner__.py", "install", *ASKED, "pystemd>=0.11")]),
        ("uv tool install -f w .", [("uv", *COMPILED, "-f", "w", "-")]),
        ("uvx --from . scopekeeper ls", [("uvx", *COMPILED, "-")]),
        # what uvx becomes, and what pipx calls
        ("/bin/uv tool uvx --from . -f w scopekeeper", [("/bin/uv", *COMPILED, "-f", "w", "-")]),
        ("uv --quiet tool run --from . scopekeeper", [("uv", *COMPILED, "-")]),
        ("uv --quiet build", None),
        ("/v/bin/python -m pip --no-input --python /run/bin/python install -q .",
            [("/v/bin/python", "-m", "pip", "--no-input", "--python", "/run/bin/python", "install",
              *ASKED, "pystemd>=0.11")]),
        ("uv pip install --python p .",
            [("uv", "pip", "show", "--python", "p", "pystemd"),
             ("uv", *COMPILED, "--python", "p", "-")]),
    ],
)  # fmt: skip
def test_only_installers_that_install_dependencies_are_asked(hook, line, questions):
    found = hook.installation(hook.Process(tuple(line.split()), {}, "/"))
    assert (found and list(found.questions)) == questions
