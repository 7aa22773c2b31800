"""The name of a session after its owner: any process name gives one that a shell takes as it is."""

import shlex
import shutil
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scopekeeper.scope import names
from scopekeeper.scope.client import program_of, script_of
from scopekeeper.scope.owner import LaunchOwner, process_label

COMMS = st.binary(max_size=15).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
HOSTILE = [
    "cursor",
    "tmux: server",
    "-rf",
    "a b;c",
    "$(id)",
    "cursor[2]",
    "x\x1b[31m",
    "日本語",
    "`",
]
SHELLS = ("bash", "zsh", "fish")


@given(COMMS)
@example("tmux: server")
@example("-rf")
@example("\udcff\udcfe")
def test_any_name_is_one_word_of_a_shell_and_one_field_of_a_unit(comm):
    label = process_label(comm, "257")
    assert label.endswith("-257")
    assert label[0] != "-"
    assert all(char.isalnum() or char in "._-" for char in label)
    assert not label.isascii() or shlex.quote(label) == label
    assert names.check("session", label, names.SESSION_MAX) == label
    unit = names.unit_name(label, "main")
    assert names.parse_unit(unit) == (label, "main", "", True)


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,14}", fullmatch=True))
def test_a_usual_name_stays_as_it_is(comm):
    assert process_label(comm, "257") == f"{comm}-257"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("comm", HOSTILE)
def test_a_shell_passes_it_on_unquoted(shell, comm, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    for name in ("cursor2", "cursor5", "cursor7", "a"):
        (tmp_path / name).touch()
    label = process_label(comm, "257")
    ran = subprocess.run([shell, "-c", f"printf %s {label}"], cwd=tmp_path, capture_output=True,
                         text=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})  # fmt: skip
    assert (ran.stdout, ran.returncode) == (label, 0), ran.stderr


def test_a_hidden_name_leaves_the_pid():
    assert LaunchOwner({"OWNER_PID": "257"}).label == "pid-257"
    assert LaunchOwner({"OWNER_PID": "257", "OWNER_NAME": ""}).label == "pid-257"


def test_a_service_is_named_after_its_unit():
    assert LaunchOwner({"OWNER_UNIT": "gateway.service"}).label == "gateway.service"


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("node /usr/bin/gemini -y", "gemini"),
        ("/usr/bin/node --max-old-space-size=4096 /usr/bin/gemini", "gemini"),
        ("/opt/node/bin/node /x/qwen.mjs", "qwen"),
        ("python3.13 -u /opt/hermes.py", "hermes"),
        ("python3 -m hermes --print", "hermes"),
        ("/venv/bin/python -m hermes_cli.main gateway run", "hermes_cli"),
        ("python3 -Im a.b.__main__", "a.b"),
        ("python3 -m http.server", "http.server"),
        ("python3 -m .main", ".main"),
        ("python3 -u a.main", "a.main"),
        ("python3 -c import/time", ""),
        ("python3 -ISc x", ""),
        ("node -e x", ""),
        ("node --require a b", ""),
        ("node -", ""),
        ("node", ""),
        ("cursor /x/y", ""),
        ("", ""),
    ],
)
def test_a_script_is_known_by_its_file(line, script):
    assert script_of([*line.split(" "), ""]) == script


@given(st.lists(st.text(max_size=8) | st.sampled_from(["node", "python3", "-m", "/", "--eval"])))
def test_any_command_line_gives_a_name_or_none(arguments):
    found = script_of(arguments or [""])
    assert "/" not in found
    assert not found or found in "\0".join(arguments)


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("python3", "gemini.py", "gemini"),
        ("MainThread", "gemini", "gemini"),
        ("python3", "index.py", "python3"),
        ("MainThread", "main.py", "python"),
        ("cursor", "gemini.py", "cursor"),
        ("python3", "x" * 80, "x" * 32),
    ],
)
def test_the_name_of_a_program_is_that_of_its_script(tmp_path, name, file, expected):
    (tmp_path / file).write_text("print(flush=True)\ninput()\n")
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    with subprocess.Popen([python, "-IS", tmp_path / file], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout.readline() == b"\n"
        assert program_of(str(process.pid), name) == expected
        process.communicate(b"\n")
    assert program_of(str(process.pid), name) == name
