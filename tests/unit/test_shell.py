"""What a shell is called for, which is the real one, and what contains it: decided from words."""

import marshal
import os
import pwd
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.launch import real_shell, shell
from scopekeeper.launch.request import Request
from scopekeeper.launch.shell_arguments import ShellArguments
from scopekeeper.launcher import direct, elf
from scopekeeper.scope import names

ROOT = Path(__file__).parents[2]
ME = str(os.getpid())
anything = st.text(st.characters(blacklist_characters="\0"), max_size=20)


@pytest.mark.parametrize(
    ("words", "command", "script"),
    [
        ("sh", None, None),
        ("sh -c CMD", "CMD", None),
        ("sh -lc CMD name arg", "CMD", None),
        ("bash -l -c CMD", "CMD", None),
        ("bash -c -l CMD", "CMD", None),
        ("bash --norc -ic CMD", "CMD", None),
        ("bash -norc -i", None, None),
        ("bash --rcfile RC -c CMD", "CMD", None),
        ("bash -eo pipefail -c CMD", "CMD", None),
        ("bash +O extglob -c CMD", "CMD", None),
        ("fish --command CMD", "CMD", None),
        ("fish --command=CMD", "CMD", None),
        ("sh FILE -c CMD", None, "FILE"),
        ("sh -x FILE", None, "FILE"),
        ("sh -- FILE", None, "FILE"),
        ("sh -s arg", None, None),
        ("sh -", None, None),
        ("sh -c", "", None),
    ],
)
def try_command_and_script_are_found_behind_the_options(words, command, script):
    given_word, *arguments = words.split()
    form = ShellArguments(given_word, arguments)
    assert (form.command, form.script) == (command, script)
    assert form.runs_command == (command is not None or script is not None)


@pytest.mark.parametrize("words", ["-sh", "sh -l", "sh -il", "bash --login", "bash -login", "-"])
def test_a_login_shell_is_known_by_its_dash_or_option(words):
    given_word, *arguments = words.split()
    assert ShellArguments(given_word, arguments).login


@given(st.lists(st.sampled_from(["-l", "-i", "-x", "-eu", "--norc", "-o", "+e"])), anything)
def test_options_before_a_command_do_not_hide_it(options, command):
    spread = [word for each in options for word in ([each, "vi"] if each == "-o" else [each])]
    if command[:1] not in ("-", "+"):  # to every shell that is one more option
        assert ShellArguments("sh", [*spread, "-c", command]).command == command
    assert ShellArguments("sh", ["-c", *spread, "--", command]).command == command


@given(anything, st.lists(anything), anything)
def test_whatever_is_given_it_has_a_name_that_can_be_one(first, arguments, real):
    name = ShellArguments(first, arguments).name(real or "sh")
    assert names.check("name", name, names.MEMBER_MAX)
    plain = string.ascii_letters + string.digits + "_.+-@:%,~"
    assert name == (real or "sh") or set(name) <= set(plain)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ('export PATH="$A:$PATH"; unset A; npm run x', "npm"),
        ("cd /tmp && cargo test", "cargo"),
        ("export A='x; y'; ls", "bash"),
        ("cd /tmp", "cd"),
        ("setsid worker; x", "setsid"),
        ("make -j2", "make"),
        ("/usr/bin/uvx server", "uvx"),
        ("exec node server.js", "node"),
        ("true; false", "true"),
        ("  git status", "git"),
        ("KEY=secret run", "bash"),
        ("$TOOL run", "bash"),
        ("'a b' c", "bash"),
        ("(cd /x && make)", "bash"),
        ("if true; then", "bash"),
        ("", "bash"),
        ("exec", "bash"),
        ("--help", "bash"),
        ("/bin/", "bash"),
        ("x" * 300, "bash"),
    ],
)
def test_the_member_is_called_as_its_command_where_that_is_plain(command, name):
    assert ShellArguments("sh", ["-c", command]).name("bash") == name


def test_a_script_gives_its_name():
    assert ShellArguments("sh", ["/opt/build.sh", "x"]).name("bash") == "build.sh"
    assert ShellArguments("-sh", []).name("bash") == "bash"


OUTER = {"KIND": "exec", "LIFETIME": "gateway", "PID": "1"}
SCOPE = {"SESSION": "s", "LANE": "cron", "RUN": "r"}


def variables(**values):
    return {f"SCOPEKEEPER_{name}".encode(): value.encode() for name, value in values.items()}


def request(options, environment):
    return Request(options, environment, "sh")


def test_a_terminal_gets_a_scope_and_a_run_of_its_own():
    environment = variables(SESSION="s", RUN="r")
    options = shell.choose(None, {}, environment, terminal=True)
    made = request(options, environment)
    assert (made.kind, made.lifetime) == ("pty", "session")
    assert made.run not in ("", "r")


def test_a_command_without_one_is_a_member_of_its_sessions_scope():
    environment = variables(SESSION="s", LANE="cron", SESSION_ID="i")
    made = request(shell.choose(None, {}, environment, terminal=False), environment)
    assert (made.kind, made.session, made.lane, made.run) == ("exec", "s", "cron", "i")


def test_a_command_inside_of_a_member_joins_the_scope_that_it_is_in():
    environment = {}  # as of an MCP client, which passes nothing on
    outer = OUTER | {"LIFETIME": "session"}
    made = request(shell.choose(outer, SCOPE, environment, terminal=False), environment)
    assert (made.session, made.lane, made.run) == ("s", "cron", "r")
    assert (made.kind, made.lifetime) == ("exec", "session")


def test_a_terminal_that_a_member_opens_gets_a_scope_in_its_session():
    environment = variables(**SCOPE)
    made = request(shell.choose(OUTER, SCOPE, environment, terminal=True), environment)
    assert (made.kind, made.session, made.lane) == ("pty", "s", "cron")
    assert made.run != "r"


@pytest.mark.parametrize("terminal", [True, False])
def test_inside_of_a_terminal_run_everything_stays_where_it_is(terminal):
    outer = OUTER | {"KIND": "pty"}
    assert shell.choose(outer, SCOPE, variables(**SCOPE), terminal=terminal) is None
    assert shell.choose(outer, SCOPE, {}, terminal=terminal) is None


@pytest.mark.parametrize("terminal", [True, False])
def test_who_is_a_member_already_stays_it(terminal):
    assert shell.choose(OUTER | {"PID": ME}, SCOPE, {}, terminal=terminal) is None


@given(
    st.dictionaries(st.sampled_from(["SESSION", "LANE", "RUN"]), st.sampled_from("srx")),
    st.booleans(),
    st.sampled_from(["pty", "exec", "mcp"]),
)
def test_another_identity_than_the_scopes_is_never_overruled(said, terminal, kind):
    environment = variables(**said)
    before = dict(environment)
    options = shell.choose(OUTER | {"KIND": kind}, SCOPE, environment, terminal=terminal)
    if any(value != SCOPE[name] for name, value in said.items()):
        assert options["kind"] == ("pty" if terminal else "exec")
        assert environment == before


def test_a_rule_that_replaces_servers_does_not_end_commands_of_one_name():
    rules = {"replace": "1"}
    options = shell.choose(None, {}, {}, terminal=False)
    assert not Request(options, variables(SESSION="s"), "git", lambda *_: dict(rules)).replace
    assert Request({}, variables(SESSION="s"), "git", lambda *_: dict(rules)).replace


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    """Install the fast launchers into a folder of their own."""
    monkeypatch.setattr(direct, "_FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["direct", str(tmp_path / "scopekeeper")])
    assert direct.main() == 0
    return tmp_path / "scopekeeper-shell"


@pytest.fixture
def chosen(launcher):
    """Tell which shells come into question, for a SCOPEKEEPER_SHELL."""

    def ask(wanted):
        found = real_shell.real_shells(str(launcher), variables(SHELL=str(wanted)))
        return [os.fsdecode(path) for path in found]

    return ask


def test_the_shell_that_was_named_goes_first_and_bin_sh_last(chosen):
    assert chosen("/bin/cat")[0] == "/bin/cat"
    assert chosen("/bin/cat")[-1] == "/bin/sh"


@pytest.mark.parametrize("kind", ["itself", "link", "link to link", "hard link", "another"])
def test_it_is_never_itself(chosen, launcher, tmp_path, monkeypatch, kind):
    other = tmp_path / "elsewhere" / "scopekeeper-shell"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    path = tmp_path / "mysh"
    if kind == "itself":
        path = launcher
    elif kind == "link":
        path.symlink_to("scopekeeper-shell")
    elif kind == "link to link":
        (tmp_path / "more").symlink_to(launcher)
        path.symlink_to("more")
    elif kind == "hard link":
        path.hardlink_to(launcher)
    else:
        path.symlink_to(other)
    monkeypatch.setattr(real_shell, "login_shell", lambda: os.fsencode(path))
    assert chosen(path) == ["/bin/sh"]


def test_a_script_that_leads_back_to_it_ends_in_bin_sh(launcher, tmp_path):
    wrapper = tmp_path / "mysh"
    wrapper.write_text(f'#!/bin/sh\nexec {launcher} "$@"\n')
    wrapper.chmod(0o755)
    ran = subprocess.run(
        [launcher, "-l"], input="readlink /proc/$$/exe\n", capture_output=True, text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SCOPEKEEPER_PLACEMENT": "mars",
             "SCOPEKEEPER_SHELL": str(wrapper)},
        timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0
    assert os.path.samefile(ran.stdout.strip(), "/bin/sh")


@pytest.mark.parametrize("name", ["nologin", "false"])
def test_a_service_account_runs_commands(chosen, launcher, tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setattr(real_shell, "login_shell", lambda: os.fsencode(path))
    assert chosen("") == ["/bin/sh"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [("bash", "not a whole path"), ("/nonexistent", "No such file"), ("/etc", "not an executable")],
)
def test_a_shell_that_cannot_be_is_said_and_passed_over(chosen, capfd, wanted, why):
    assert wanted not in chosen(wanted)
    assert why in capfd.readouterr().err


def test_links_that_go_in_a_circle_are_no_shell(chosen, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert str(tmp_path / "a") not in chosen(tmp_path / "a")


@pytest.fixture
def folder(launcher, tmp_path):
    """Return a folder with a `bash` that leads to the launcher, and one with another one."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    (tmp_path / "ours/bash").symlink_to(launcher)
    other = tmp_path / "theirs/bash"
    other.write_text('#!/bin/sh\necho the next one: "$@"\n')
    other.chmod(0o755)
    return tmp_path


def named(launcher, called, path, **more):
    environment = {b"PATH": os.fsencode(path)} | variables(**more)
    found = real_shell.real_shells(str(launcher), environment, called)
    return [os.fsdecode(each) for each in found]


def test_called_bash_it_is_the_next_bash_in_path_and_never_itself(launcher, folder):
    found = named(launcher, "bash", f"{folder}/ours:.:relative::{folder}/theirs:/usr/bin")
    assert found[:2] == [f"{folder}/theirs/bash", "/usr/bin/bash"]
    assert not any(os.path.samefile(each, launcher) for each in found)
    assert named(launcher, "bash", f"{folder}/ours")[0] == "/bin/bash"
    assert named(launcher, "bash", "")[0] == "/bin/bash"


def test_called_bash_another_shell_that_was_named_does_not_count(launcher, folder):
    path = f"{folder}/ours:/usr/bin"
    assert named(launcher, "bash", path, SHELL="/bin/dash")[0] == "/usr/bin/bash"
    assert "/bin/dash" not in named(launcher, "bash", path, SHELL="/bin/dash")
    assert named(launcher, "bash", path, SHELL=f"{folder}/theirs/bash")[0].startswith(str(folder))
    assert named(launcher, "bash", path, SHELL=f"{folder}/ours/bash")[0] == "/usr/bin/bash"
    assert named(launcher, "mysh", path, SHELL="/bin/dash")[0] == "/bin/dash"


def test_a_login_shell_called_bash_is_bash_whatever_its_first_word(launcher, folder, monkeypatch):
    """`su -` calls it `-su`."""
    login = os.fsencode(f"{folder}/ours/bash")
    monkeypatch.setattr(real_shell, "login_shell", lambda: login)
    assert named(launcher, "su", "/usr/bin")[0] == "/usr/bin/bash"


def test_shell_names_the_real_bash_for_a_command_that_must_not_use_us(launcher, folder):
    environment = {b"PATH": b"/usr/bin", b"SHELL": os.fsencode(f"{folder}/ours/bash")}
    real_shell.name_real_shell(environment)
    assert environment[b"SHELL"] == b"/usr/bin/bash"
    environment = {b"PATH": b"/usr/bin", b"SHELL": b"/usr/bin/bash"}
    real_shell.name_real_shell(environment)
    assert environment[b"SHELL"] == b"/usr/bin/bash"


UNAVAILABLE = {
    "SCOPEKEEPER_PLACEMENT": "cgroup:/sys/fs/cgroup" if os.getuid() else "user"
}  # fmt: skip
"""Root has no manager of its own, and nobody else may make cgroups at the top."""


def by_name(folder, *arguments, first="bash", path="", **environment):
    return subprocess.run(
        [first, *arguments], executable=f"{folder}/ours/bash", stdin=subprocess.DEVNULL,
        env={"PATH": path or f"{folder}/ours:/usr/bin:/bin", "HOME": str(folder), **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_called_bash_it_runs_bash_also_where_nothing_can_be_contained(folder):
    script = folder / "script.sh"
    script.write_text('[[ a == a ]] && echo "$0 $1 ${BASH_VERSION%%.*}"; bash -c "echo inner"')
    ran = by_name(folder, str(script), "x y", **UNAVAILABLE)
    assert (ran.returncode, ran.stdout) == (0, f"{script} x y 5\ninner\n")
    assert ran.stderr.count("warning: this shell runs uncontained: ") == 2
    ran = by_name(folder, "-lc", "shopt -q login_shell && echo $0", "zero", **UNAVAILABLE)
    assert ran.stdout == "zero\n"
    ran = by_name(folder, "-c", "exit 7", SCOPEKEEPER_IF_UNAVAILABLE="fail", **UNAVAILABLE)
    assert ran.returncode == 125
    ran = by_name(folder, "-c", "echo ran", SCOPEKEEPER_PLACEMENT="mars")
    assert (ran.returncode, ran.stdout) == (125, ""), "a wrong call is no machine that lacks it"


@pytest.mark.skipif(os.uname().machine != elf.MACHINE, reason="a script does not see its name")
def test_called_as_a_login_bash_it_is_one(folder):
    ran = by_name(folder, "-c", "shopt -q login_shell && echo $0", first="-bash", **UNAVAILABLE)
    assert ran.stdout == "-bash\n"


def test_a_bash_that_leads_back_to_it_ends_in_bin_sh(launcher, folder):
    back = folder / "theirs/bash"
    back.write_text(f'#!/bin/sh\nexec {folder}/ours/bash "$@"\n')
    path = f"{folder}/ours:{folder}/theirs"
    ran = by_name(folder, "-c", "echo end", path=path, **UNAVAILABLE)
    assert (ran.returncode, ran.stdout) == (0, "end\n")


def test_called_bash_with_a_broken_installation_it_is_bash(launcher, folder):
    for compiled in launcher.parent.glob("shell.*"):
        compiled.write_bytes(marshal.dumps(("import scopekeeper_is_gone", {})))
    ran = by_name(folder, "-c", "[[ a == a ]] && echo $0")
    assert (ran.returncode, ran.stdout) == (0, "bash\n")


def call(launcher, *arguments, first="scopekeeper-shell", **environment):
    """Call it where it cannot contain anything, and is told so in the call."""
    variables = {
        "PATH": "/usr/bin:/bin", "HOME": str(launcher.parent), "SCOPEKEEPER_PLACEMENT": "mars",
        **environment,
    }  # fmt: skip
    return subprocess.run(
        [first, *arguments], executable=launcher, env=variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip


def test_a_command_that_cannot_be_contained_is_not_run(launcher):
    ran = call(launcher, "-c", "echo ran", SCOPEKEEPER_SESSION="s")
    assert (ran.returncode, ran.stdout) == (125, "")
    assert "unknown placement 'mars'" in ran.stderr


def test_a_login_shell_starts_all_the_same(launcher):
    ran = call(launcher, first="-scopekeeper-shell", SCOPEKEEPER_SESSION="s")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr.splitlines()[0].startswith(
        "scopekeeper: warning: this shell runs uncontained: unknown placement 'mars'"
    )


def test_even_a_login_shell_does_not_where_that_was_asked_for(launcher):
    ran = call(launcher, first="-scopekeeper-shell", SCOPEKEEPER_IF_UNAVAILABLE="fail")
    assert ran.returncode == 125


def test_a_wrong_call_is_no_machine_that_lacks_something(launcher):
    ran = call(launcher, "-c", "echo ran", SCOPEKEEPER_IF_UNAVAILABLE="warn")
    assert (ran.returncode, ran.stdout) == (125, "")


@pytest.mark.skipif(os.uname().machine != elf.MACHINE, reason="a script does not see its name")
class TestProgram:
    """What only a program of the machine's own can do."""

    def test_all_words_reach_python(self, tmp_path):
        text = "import os, sys; os.write(1, b'|'.join(map(os.fsencode, sys.argv)))"
        program = tmp_path / "program"
        program.write_bytes(elf.program(os.fsencode(sys.executable), text))
        program.chmod(0o755)
        ran = subprocess.run(["-x", "a b", "", "\u00fc"], executable=program, capture_output=True)
        assert ran.stdout.decode() == "-c|-x|a b||\u00fc"

    def test_the_dash_of_a_login_shell_reaches_the_real_one(self, launcher):
        told = subprocess.run(
            ["-x", "-i"], executable=launcher, input="shopt login_shell; echo $0", text=True,
            capture_output=True,
            env={"HOME": "/", "SCOPEKEEPER_PLACEMENT": "mars", "SCOPEKEEPER_SHELL": "/bin/bash"},
        )  # fmt: skip
        assert told.stdout.split() == ["login_shell", "on", "-bash"]

    @pytest.mark.parametrize(("first", "dash"), [("shell", ""), ("-shell", "-")])
    def test_without_an_interpreter_it_is_bin_sh(self, tmp_path, first, dash):
        program = tmp_path / "program"
        program.write_bytes(elf.program(b"/nonexistent/python", "pass"))
        program.chmod(0o755)
        ran = subprocess.run(
            [first, "-c", "echo $A; ps -o args= -p $$"], executable=program, text=True,
            env={"A": "kept", "PATH": "/usr/bin:/bin"}, capture_output=True,
        )  # fmt: skip
        assert ran.returncode == 0
        assert ran.stdout.splitlines() == ["kept", f"{dash}sh -c echo $A; ps -o args= -p $$"]
        assert "/nonexistent/python cannot be executed" in ran.stderr

    def test_without_its_modules_too(self, launcher):
        for compiled in launcher.parent.glob("shell.*"):
            compiled.write_bytes(marshal.dumps(("import scopekeeper_is_gone", {})))
        ran = call(launcher, "-c", "echo here")
        assert (ran.returncode, ran.stdout) == (0, "here\n")
        assert "the installation is broken" in ran.stderr
        assert call(launcher, "-c", "echo here", SCOPEKEEPER_SESSION="s").returncode == 125

    @pytest.mark.parametrize("content", [None, b"", b"not what it was"])
    def test_without_the_compiled_file_it_is_only_slower(self, launcher, content):
        for compiled in launcher.parent.glob("shell.*"):
            compiled.unlink()
            if content is not None:
                compiled.write_bytes(content)
        ran = call(launcher, first="-scopekeeper-shell")
        assert (ran.returncode, ran.stdout) == (0, "")
        assert "broken" not in ran.stderr


def test_the_script_that_pip_installs_does_the_same_but_for_the_dash(tmp_path):
    script = tmp_path / "scopekeeper-shell"
    text = (ROOT / "scopekeeper/launcher/scopekeeper_shell.py").read_text()
    script.write_text(text.replace("#!python", f"#!{sys.executable}"))
    script.chmod(0o755)
    ran = call(script, "-c", "true", SCOPEKEEPER_SESSION="s", PYTHONPATH=str(ROOT))
    assert ran.returncode == 125
    assert call(script, "-l", PYTHONPATH=str(ROOT)).returncode == 0


def test_the_password_database_is_asked_without_an_import():
    assert "pwd" in sys.builtin_module_names
    assert os.fsdecode(real_shell.login_shell()) == (
        pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    )
