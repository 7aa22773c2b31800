"""The fast launcher does what the slow one does, from one compiled file."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scopekeeper.launcher import direct
from scopekeeper.version import __version__

ROOT = Path(direct.__file__).parents[2]


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    monkeypatch.setattr(direct, "_FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["direct", str(tmp_path / "scopekeeper")])
    assert direct.main() == 0
    return tmp_path / "scopekeeper"


def call(launcher, *arguments, **environment):
    return subprocess.run(
        [launcher, *arguments], capture_output=True, text=True, env={"PATH": "/bin", **environment}
    )


def test_it_starts_the_interpreter_without_site(launcher):
    assert launcher.read_text().startswith(f"#!{sys.executable} -IS\n")


def test_it_launches(launcher):
    ran = call(launcher, "run", "--", "/nonexistent")
    assert (ran.returncode, ran.stderr) == (127, "scopekeeper: /nonexistent: not found\n")


def test_what_the_fast_parser_leaves_goes_to_click(launcher):
    assert "--lifetime" in call(launcher, "run", "--help").stdout
    assert call(launcher, "--version").stdout == f"scopekeeper {__version__}\n"


def test_the_path_of_the_package_may_be_as_long_as_one_can_be(tmp_path):
    deep = str(tmp_path / "folder")
    deep += "/" + "x" * 200 + ("/" + "x" * 200) * ((3_900 - len(deep)) // 201 - 1)
    shutil.copytree(Path(direct.__file__).parents[1], f"{deep}/scopekeeper")
    launcher = tmp_path / "scopekeeper"
    written = subprocess.run(
        [sys.executable, "-m", "scopekeeper.launcher.direct", launcher],
        env={"PYTHONPATH": deep}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (written.returncode, written.stderr) == (0, "")
    ran = call(launcher, "run", "--placement", "mars", "--", "true", SCOPEKEEPER_DEBUG="1")
    found = r'File "scopekeeper/launch/run.py", line \d+, in run\n +_launch'
    assert re.search(found, ran.stderr), "with the line of the source"
    ran = call(tmp_path / "scopekeeper-shell", "-c", "echo ready")
    assert (ran.stdout, ran.stderr) == ("ready\n", "")


def test_a_hook_is_silent_and_its_help_is_clicks(launcher):
    for words in (["hook"], ["hook", "mars", "Up"], ["hook", "claude", "SessionStart"]):
        ran = call(launcher, *words)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert "CLIENT EVENT" in call(launcher, "hook", "--help").stdout


def test_a_hook_starts_from_the_compiled_file_alone(launcher):
    """No module of ours is read from a file, before it has returned."""
    without_files = "sys.meta_path[2:] = []; posix.fork = lambda: 1\ntry:"
    launcher.write_text(launcher.read_text().replace("try:", without_files, 1))
    ran = call(launcher, "hook", "claude", "SessionStart")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [
    ["--version"], ["lst"], ["exec", "-d", "--lifetime", "mars", "--", "true"],
])  # fmt: skip
def test_a_plain_call_starts_from_the_compiled_file_alone(launcher, arguments):
    wanted = subprocess.run(
        [sys.executable, "-m", "scopekeeper", *arguments], capture_output=True, text=True,
        env={"PATH": "/bin"}, cwd=ROOT,
    )  # fmt: skip
    without = "content = marshal.loads(posix.read(file, most)); "
    without += "content[1]['FOLDER'] = '/nonexistent'; exec(*content)"
    text = launcher.read_text().replace("exec(*marshal.loads(posix.read(file, most)))", without)
    assert without in text
    launcher.write_text(text)
    ran = call(launcher, *arguments)
    assert (ran.returncode, ran.stderr) == (wanted.returncode, wanted.stderr)
    assert ran.stdout.splitlines()[:1] == wanted.stdout.splitlines()[:1]


def test_what_is_compiled_names_its_file(launcher):
    ran = call(launcher, "exec", "-d", "--lifetime", "mars", "--", "true", SCOPEKEEPER_DEBUG="1")
    assert "unknown lifetime 'mars'" in ran.stderr
    ran = subprocess.run(
        [sys.executable, "-IS", "-c", NAMES, str(next(launcher.parent.glob("calls.*")))],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.stderr == ""
    assert ran.stdout.split()[2:] == [
        str(ROOT / "scopekeeper/scope/model.py"), str(ROOT / "scopekeeper/scope"),
    ]  # fmt: skip


NAMES = """
import marshal, posix, sys
posix._exit = sys.exit
code, content = marshal.loads(open(sys.argv[1], "rb").read())
sys.argv[1:] = ["--version"]
sys.stdout = None
try:
    exec(code, content)
except SystemExit:
    pass
sys.stdout = sys.__stdout__
import scopekeeper.scope.model as model
import scopekeeper.scope
print(model.__file__, *scopekeeper.scope.__path__)
"""


def test_it_can_still_say_where_something_failed(launcher):
    ran = call(launcher, "run", "--placement", "mars", "--", "true", SCOPEKEEPER_DEBUG="1")
    assert ran.returncode == 125
    assert "Traceback" in ran.stderr
    assert "unknown placement 'mars'" in ran.stderr.splitlines()[-1]


def test_without_the_compiled_file_it_is_only_slower(launcher):
    for compiled in launcher.parent.glob("hot.*"):
        compiled.unlink()
    assert call(launcher, "run", "--", "/nonexistent").returncode == 127


def test_another_version_of_python_does_not_read_it(launcher):
    (compiled,) = launcher.parent.glob("hot.*")
    assert compiled.name == f"hot.{sys.implementation.cache_tag}"


@pytest.mark.parametrize("arguments", [["history"], ["stop", "-s", "no such session"]])
def test_an_interrupt_at_any_moment_ends_it_and_prints_nothing(launcher, tmp_path, arguments):
    environment = {"PATH": "/bin", "SCOPEKEEPER_STATE": str(tmp_path / "state")}
    began = time.monotonic()
    assert subprocess.run([launcher, *arguments], env=environment).returncode == 0
    lasts = time.monotonic() - began
    statuses = []
    for part in range(20):
        process = subprocess.Popen(
            [launcher, *arguments], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(lasts * part / 20)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate()
        if not words:
            statuses.append(process.returncode)
        # what is not frozen into the interpreter is ours: no program can have it print nothing
        ours = re.findall(r'File "([^<].*)", line (\d+)', words)
        assert all(file == str(launcher) and int(line) <= 2 for file, line in ours), words
    assert set(statuses) <= {0, -signal.SIGINT}
    assert -signal.SIGINT in statuses


TWICE = """
import marshal, sys
code, content = marshal.loads(open(sys.argv[1], "rb").read())
sys.path.insert(0, content["FOLDER"])
import scopekeeper.errors as first
sys.argv = ["scopekeeper", "run"]
try:
    exec(code, content)
except SystemExit:
    sys.modules["scopekeeper.launch"].load_more()
assert sys.modules["scopekeeper.errors"] is first
assert "scopekeeper.launch.create_unit" in sys.modules
"""


def test_a_module_that_is_there_is_not_loaded_again(launcher):
    """A second copy of the errors would have other classes, which no ``except`` catches."""
    (compiled,) = launcher.parent.glob("hot.*")
    ran = subprocess.run(
        [sys.executable, "-c", TWICE, str(compiled)], capture_output=True, text=True
    )
    assert "is first" not in ran.stderr
    assert ran.returncode == 0, ran.stderr


LATER = """
import marshal, sys
code, content = marshal.loads(open(sys.argv[1], "rb").read())
sys.argv = ["scopekeeper", "run"]
try:
    exec(code, content)
except SystemExit:
    pass
name = "scopekeeper.clients.identity"
assert name not in sys.modules, "only launches that need it load it"
for _ in range(2):
    sys.modules["scopekeeper.launch"].load_later(name)
    found = sys.modules[name]
assert found.__spec__ is None, "it is not from a file of its own"
from scopekeeper.clients.identity import find
assert find is found.find
"""


def test_what_few_launches_need_is_in_the_compiled_file_and_not_loaded_before(launcher):
    (compiled,) = launcher.parent.glob("hot.*")
    ran = subprocess.run(
        [sys.executable, "-c", LATER, str(compiled)], capture_output=True, text=True
    )
    assert "AssertionError" not in ran.stderr
    assert ran.returncode == 0, ran.stderr


def test_what_only_type_checkers_see_is_not_compiled():
    """The launcher reads a file of a bounded size at once."""
    whole = direct.compile_hot()
    assert b"scopekeeper.scope.owner" in whole
    assert b"collections.abc" not in whole
    assert b"python_api.aio" not in whole


def test_no_compiled_file_gets_into_a_distribution():
    """hatchling leaves out what git ignores, and the package's scripts remove the rest."""
    root = Path(__file__).parents[2]
    for file in (".gitignore", "debian/scopekeeper.prerm"):
        named = (root / file).read_text().split()
        assert all(f"{name}.cpython-*" in named for name in direct.COMPILED), file
