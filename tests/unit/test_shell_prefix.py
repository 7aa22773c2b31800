"""scopekeeper-prefix: what a line is, and that it runs to the byte, whatever is missing."""

import marshal
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopekeeper.launch import command_line
from scopekeeper.launcher import direct, elf
from scopekeeper.version import __version__

ROOT = Path(__file__).parents[2]
words_of_a_line = st.lists(
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12),
    max_size=5,
)
SNAPSHOT = "source /home/a b/.claude/shell-snapshots/snapshot-bash-1.sh 2>/dev/null || true"


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    """Install the fast launchers into a folder of their own."""
    folder = tmp_path_factory.mktemp("launchers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "_FOLDER", folder)
        patch.setattr(sys, "argv", ["direct", str(folder / "scopekeeper")])
        assert direct.main() == 0
    return folder / "scopekeeper-prefix"


def call(launcher, *arguments, stdin="", **environment):
    """Call it where it cannot contain anything, and the call says so."""
    variables = {"PATH": "/usr/bin:/bin", "SCOPEKEEPER_PLACEMENT": "mars", **environment}
    return subprocess.run(
        [launcher, *arguments], env=variables, input=stdin, capture_output=True, text=True
    )


def command(**more):
    """Return the variables of a command of the Bash tool, if this process is the client."""
    return {
        "CLAUDECODE": "1", "CLAUDE_CODE_SESSION_ID": "5e0c", "CLAUDE_CODE_CHILD_SESSION": "1",
        "CLAUDE_PID": str(os.getpid()), "SHELL": "/bin/bash", **more,
    }  # fmt: skip


# the line


@given(words_of_a_line)
def test_quoted_words_are_read_as_a_shell_reads_them(words):
    assert command_line.words_of(shlex.join(words), len(words)) == words


@given(words_of_a_line)
@settings(max_examples=60, deadline=None)
def test_a_quoted_server_gets_its_words_to_the_byte_and_leaves_no_shell(words):
    program = ["/usr/bin/env", "printf", "%s\\n"]
    line = command_line.executed(shlex.join([*program, *words]))
    assert line.startswith("exec ")
    ran = subprocess.run(["/bin/sh", "-c", line], capture_output=True)
    assert ran.stdout == "".join(f"{each}\n" for each in words or [""]).encode()


@given(st.text(st.sampled_from("ab =$'\"\\;&|<>(){}`#\n~*[]!-.:0exit"), max_size=14))
@settings(max_examples=150, deadline=None)
def test_exec_is_put_before_a_line_only_if_nothing_changes(line):
    made = command_line.executed(line)
    assert made in (line, f"exec {line}")
    if made == line:
        return
    environment = {"PATH": "/nowhere"}
    ran = [
        subprocess.run(["/bin/sh", "-c", each], capture_output=True, env=environment, cwd="/proc")
        for each in (line, made)
    ]
    assert ran[0].stdout == ran[1].stdout
    assert ran[0].returncode == ran[1].returncode


@pytest.mark.parametrize(
    "line",
    [
        "", " ", "A=1 server", "cd /x && server", "server; true", "server | cat", "(server)",
        "echo x", "if true; then server; fi", "exec server", "$SERVER x", "'' x", "server `x`",
        "server 'open", "{ server; }", "! server", "time server", "2>/dev/null server",
        "server $(x)", "\\\n server", "a\nb", "x" * 131_000,
    ],
)  # fmt: skip
def test_what_is_not_plainly_one_program_stays_as_it_is(line):
    assert command_line.executed(line) == line


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("npx -y @scope/server /a", "npx"),
        ("/opt/a/bin/mcp-server-time --x 'a b'", "mcp-server-time"),
        ("'/opt/my server/bin/serve' a", "serve"),
        ("uvx server", "uvx"),
        ("'/opt/my server'", "server"),
        ("A=1 x", "server"),
        ("x" * 300, "server"),
        ("a; b", "server"),
        ("/bin/", "server"),
        ("", "server"),
    ],
)
def test_a_server_is_called_as_its_program(line, name):
    assert command_line.program_name(line, "server") == name


@pytest.mark.parametrize(
    ("evaluated", "name"),
    [
        ("'npm test'", "npm"),
        ("'cd /x && cargo build' \\< /dev/null", "cargo"),
        ('"git log"', "git"),
        ("ls", "ls"),
        ("make\\ -j2", "make"),
        ("'python3 -c '\"'\"'x'\"'\"", "python3"),
        ("'if true; then x; fi'", "bash"),
    ],
)
def test_a_command_is_called_as_what_the_tool_evaluates(evaluated, name):
    line = f"{SNAPSHOT} && eval {evaluated} && pwd -P >| /tmp/cwd"
    assert command_line.of_bash_tool(line)
    assert command_line.command_name(line, "bash") == name


@given(st.text(max_size=40), st.text(max_size=10))
def test_any_line_can_be_read(line, default):
    for each in (line, f"{SNAPSHOT} && eval {line}"):
        command_line.words_of(each, 3)
        command_line.is_contained(each)
        name = command_line.program_name(each, "server")
        assert 0 < len(name) <= 64
        assert command_line.command_name(each, "bash")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("scopekeeper run -n x -- y", True),
        ("'/opt/a b/scopekeeper' run -- y", True),
        ("/usr/bin/scopekeeper exec -- y", True),
        ("scopekeeper ls", False),
        ("scopekeeper", False),
        ("scopekeeper-shell -c run", False),
        ("echo scopekeeper run", False),
        ("scopekeeper run -- a; b", False),
    ],
)
def test_a_wrapped_server_is_recognised(line, expected):
    assert command_line.is_contained(line) is expected


# the program


@pytest.mark.parametrize("variables", [{}, {"CLAUDECODE": "1"}, command()])
def test_status_streams_and_words_are_the_commands(launcher, variables):
    assert call(launcher, "exit 7", **variables).returncode == 7
    assert call(launcher, "kill -TERM $$", **variables).returncode == -signal.SIGTERM
    assert call(launcher, "no-such-thing-here", **variables).returncode == 127
    ran = call(launcher, "cat; echo error >&2; exit 3", stdin="given", **variables)
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "given", "error\n")


LINES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(LINES.map(os.fsencode))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_line_arrives_to_the_byte(launcher, locale, raw):
    line = b"printf %s " + shlex.quote(os.fsdecode(raw)).encode("utf-8", "surrogateescape")
    environment = {b"PATH": b"/usr/bin:/bin", b"LC_ALL": locale.encode()}
    ran = subprocess.run([launcher, line], env=environment, capture_output=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, raw, b"")


def test_the_environment_is_the_commands(launcher):
    ran = call(launcher, "exec env", LC_ALL="C")
    assert dict(line.split("=", 1) for line in ran.stdout.splitlines()) == {
        "PATH": "/usr/bin:/bin", "SCOPEKEEPER_PLACEMENT": "mars", "LC_ALL": "C",
        **({"PWD": os.getcwd()} if "PWD=" in ran.stdout else {}),
    }  # fmt: skip


def test_a_command_of_the_bash_tool_runs_in_its_shell(launcher):
    line = f"{SNAPSHOT} && eval 'echo $BASH_VERSION' && pwd -P >| /dev/null"
    for variables in (command(), {"SHELL": "/bin/bash"}, command(SHELL="/bin/fish"), {}):
        assert call(launcher, line, **variables).stdout.startswith("5.")


def test_a_command_that_cannot_be_contained_runs_and_prints_nothing(launcher):
    line = f"{SNAPSHOT} && eval 'echo ran' && pwd -P >| /dev/null"
    ran = call(launcher, line, **command())
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "ran\n", "")
    ran = call(launcher, line, **command(SCOPEKEEPER_IF_UNAVAILABLE="warn"))
    assert (ran.returncode, ran.stdout) == (0, "ran\n")
    assert "warning: running uncontained: unknown placement 'mars'" in ran.stderr
    ran = call(launcher, line, **command(SCOPEKEEPER_IF_UNAVAILABLE="fail"))
    assert (ran.returncode, ran.stdout) == (125, "")
    assert "unknown placement 'mars'" in ran.stderr


def test_a_server_that_cannot_be_contained_runs_with_one_line(launcher):
    ran = call(launcher, "echo ran", CLAUDECODE="1", CLAUDE_CODE_SESSION_ID="5e0c")
    assert (ran.returncode, ran.stdout) == (0, "ran\n")
    assert ran.stderr.splitlines()[0].startswith("scopekeeper: warning: running uncontained: ")


@pytest.mark.parametrize("pid", ["1", "", "x", "-1"])
def test_a_hook_is_never_contained(launcher, pid):
    """Neither with a shell between, nor where that has become this program: a pipe takes it."""
    ran = call(launcher, "echo hook", **command(CLAUDE_PID=pid, SCOPEKEEPER_IF_UNAVAILABLE="fail"))
    assert (ran.returncode, ran.stdout) == (0, "hook\n")
    ran = call(launcher, "echo hook", **command(SCOPEKEEPER_IF_UNAVAILABLE="fail"))
    assert (ran.returncode, ran.stdout) == (0, "hook\n")


def test_output_into_a_file_makes_a_command(launcher, tmp_path):
    with (tmp_path / "output").open("wb") as output:
        ran = subprocess.run(
            [launcher, "echo ran"], stdout=output, stderr=subprocess.PIPE,
            env={"PATH": "/bin", "SCOPEKEEPER_PLACEMENT": "mars",
                 **command(SCOPEKEEPER_IF_UNAVAILABLE="fail")},
        )  # fmt: skip
    assert ran.returncode == 125


def test_more_words_are_a_program_and_its_arguments(launcher):
    assert call(launcher, "printf", "%s|", "a b", "$x").stdout == "a b|$x|"
    assert call(launcher, "no-such-thing-here", "x").returncode == 127


def test_without_words_it_says_what_it_takes(launcher):
    ran = call(launcher)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "scopekeeper: scopekeeper-prefix: there is no command line; scopekeeper-prefix --help "
        "shows its use\n"
    )
    assert "CLAUDE_CODE_SHELL_PREFIX" in call(launcher, "--help").stdout
    assert call(launcher, "--version").stdout == f"scopekeeper-prefix {__version__}\n"


def test_the_script_that_pip_installs_does_the_same(tmp_path):
    script = tmp_path / "scopekeeper-prefix"
    text = (ROOT / "scopekeeper/launcher/scopekeeper_prefix.py").read_text()
    script.write_text(text.replace("#!python", f"#!{sys.executable}"))
    script.chmod(0o755)
    ran = call(script, "echo 'a  b'; exit 4", PYTHONPATH=str(ROOT))
    assert (ran.returncode, ran.stdout, ran.stderr) == (4, "a  b\n", "")


# a broken installation


@pytest.mark.skipif(os.uname().machine != elf.MACHINE, reason="a script needs its interpreter")
def test_without_an_interpreter_the_command_runs(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(elf.program(b"/nonexistent/python", "pass", takes_line=True))
    program.chmod(0o755)
    ran = call(program, "source /dev/null; echo $A $0 ${BASH_VERSION%%.*}; exit 3", A="kept")
    assert (ran.returncode, ran.stdout) == (3, "kept bash 5\n")
    assert ran.stderr == (
        "scopekeeper: /nonexistent/python cannot be executed; this command runs uncontained\n"
    )


@pytest.mark.parametrize("content", [None, b"", b"not what it was"])
def test_without_the_compiled_file_it_is_only_slower(tmp_path, monkeypatch, content):
    launcher = _broken(tmp_path, monkeypatch, content)
    ran = call(launcher, "echo here")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "here\n", "")


def test_without_its_modules_the_command_runs(tmp_path, monkeypatch):
    gone = marshal.dumps(("import scopekeeper_is_gone", {}))
    ran = call(_broken(tmp_path, monkeypatch, gone), "echo here; exit 3")
    assert (ran.returncode, ran.stdout) == (3, "here\n")
    assert "the installation is broken" in ran.stderr


def _broken(folder, monkeypatch, content):
    monkeypatch.setattr(direct, "_FOLDER", folder)
    monkeypatch.setattr(sys, "argv", ["direct", str(folder / "scopekeeper")])
    assert direct.main() == 0
    for compiled in folder.glob("prefix.*"):
        compiled.unlink()
        if content is not None:
            compiled.write_bytes(content)
    return folder / "scopekeeper-prefix"
