"""The README's lines for machines without the package, from the network, in a home of their own."""

import os
import shutil
import subprocess
import sys

import pytest

from scopekeeper.version import __version__
from tests.docs.test_readme import ROOT, blocks

pytestmark = [pytest.mark.builds, pytest.mark.timeout(900)]


def test_pipx_uv_and_pip_install_it_and_the_packages_exist(tmp_path):
    lines = "".join([*blocks(""), *blocks("", "docs/install.md")]).splitlines()
    wanted = ("apt install gcc", "pipx install", "uv tool install", "/bin/pip install", "ln -s")
    packages, pipx, uv, pip, link = (next(x for x in lines if words in x) for words in wanted)
    tools = tmp_path / "tools"
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    subprocess.run([tools / "bin/pip", "install", "-q", "pipx", "uv"], check=True)
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "dist"))
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "XDG_", "VIRTUAL_ENV"))
    } | {
        "HOME": str(home), "PATH": f"{tools}/bin:{home}/.local/bin:/usr/bin:/usr/sbin",
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
    }  # fmt: skip

    def shell(line):
        done = subprocess.run(
            ["sh", "-c", line], cwd=source, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout)
        return done.stdout

    if shutil.which("apt-get"):
        shell(packages.replace("sudo apt", "apt-get --simulate"))
    for line, undo in ((pipx, "pipx uninstall scopekeeper"), (uv, "uv tool uninstall scopekeeper")):
        shell(line)
        assert shell("scopekeeper --version") == f"scopekeeper {__version__}\n"
        assert shell("scopekeeper run --help")
        shell(undo)
    shell(pip)
    shell(link)
    assert shell("scopekeeper --version") == f"scopekeeper {__version__}\n"
    assert shell("command -v scopekeeper-shell") == f"{home}/.local/bin/scopekeeper-shell\n"
    shell("test -s ~/.local/share/scopekeeper/share/man/man1/scopekeeper-run.1")
