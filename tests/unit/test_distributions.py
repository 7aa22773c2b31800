"""The wheel and the sdist: what is in them, and that they are the same wherever they are built."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from scopekeeper.cli.documents import texts
from scopekeeper.version import __version__

ROOT = Path(__file__).parents[2]


def files_of_the_checkout():
    listed = ["git", "-C", ROOT, "ls-files", "-z", "-co", "--exclude-standard"]
    done = subprocess.run(listed, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Build both twice: in folders of other names, at other times, as users with other umasks."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is a copy of a checkout: git cannot say what is of it")
    made = []
    for name, umask in (("one", "022"), ("another", "077")):
        source = tmp_path_factory.mktemp(name)
        for file in files_of_the_checkout():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_bytes((ROOT / file).read_bytes())
        build = f'umask {umask} && exec "$@"'
        command = [sys.executable, "-m", "hatchling", "build"]
        subprocess.run(
            ["sh", "-c", build, "sh", *command], cwd=source, check=True, capture_output=True
        )
        made.append({path.name: path for path in (source / "dist").iterdir()})
    return made


def test_two_builds_are_the_same_to_the_byte(builds):
    first, second = builds
    assert set(first) == set(second)
    assert len(first) == 2
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name


def test_the_wheel_has_units_plugin_pages_and_completions(builds):
    (path,) = [path for name, path in builds[0].items() if name.endswith(".whl")]
    wheel = zipfile.ZipFile(path)
    names = set(wheel.namelist())
    data = f"scopekeeper-{__version__}.data"
    for folder in ("units", "scopekeeper/openclaw/plugin", "scopekeeper/clients"):
        there = [name for name in files_of_the_checkout() if name.startswith(f"{folder}/")]
        assert there
        assert {f"scopekeeper/{name.removeprefix('scopekeeper/')}" for name in there} <= names
    for name, text in texts().items():
        assert wheel.read(f"{data}/data/share/{name}").decode() == text
    shared = {name for name in names if name.startswith(f"{data}/data/")}
    assert shared == {f"{data}/data/share/{name}" for name in texts()}
    assert {
        f"{data}/scripts/{name}"
        for name in ("scopekeeper", "scopekeeper-shell", "scopekeeper-prefix")
    } <= names
    assert not {name for name in names if not re.match(rf"scopekeeper(/|-{__version__}\.)", name)}


def test_the_sdist_has_everything_of_the_checkout_and_what_was_made(builds):
    (path,) = [path for name, path in builds[0].items() if name.endswith(".tar.gz")]
    top = f"scopekeeper-{__version__}/"
    with tarfile.open(path) as sdist:
        names = {name.removeprefix(top) for name in sdist.getnames()}
        pages = {name: sdist.extractfile(f"{top}share/{name}").read().decode() for name in texts()}
    assert pages == texts()
    assert set(files_of_the_checkout()) - {".gitignore"} <= names


def test_the_packages_changelog_names_this_version():
    first = (ROOT / "debian/changelog").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"scopekeeper ({__version__}) ")
