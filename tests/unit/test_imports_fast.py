"""Calls that need no parser start without click, and import what is written down here.

``ls``, ``exec -d``, ``stop``, ``--version`` and the error for an unknown command. A module more is
a decision: each of those that are kept out takes from a half to three times as long as the
interpreter. Of a stop, what counts is what it imports before its first signal.
"""

import difflib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scopekeeper
from scopekeeper.cli.commands import COMMANDS, MEANT
from scopekeeper.cli.unknown_command import closest
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.launcher import calls
from tests.machine import eventually

ROOT = Path(scopekeeper.__file__).parents[1]
SLOW = {
    "click", "dataclasses", "inspect", "typing", "asyncio", "argparse", "logging", "pathlib",
    "subprocess", "shlex", "datetime", "tempfile", "locale", "gettext", "difflib", "shutil",
    "site", "psutil", "pystemd", "urllib", "tomllib", "sqlite3", "socket", "selectors",
}  # fmt: skip
"""What none of these calls imports."""
START = {
    "scopekeeper", "scopekeeper.main", "scopekeeper.launch", "scopekeeper.launch.signals",
    "scopekeeper.cli", "scopekeeper.cli.plain_calls",
}  # fmt: skip
LOWER = {
    "scopekeeper.data", "scopekeeper.errors", "scopekeeper.quantities", "scopekeeper.safe_text",
    "scopekeeper.cli.colour", "scopekeeper.cli.outcome", "scopekeeper.cli.output",
    "scopekeeper.kernel", "scopekeeper.kernel.cgroupfs", "scopekeeper.kernel.proc",
    "scopekeeper.scope", "scopekeeper.scope.names", "scopekeeper.scope.placement",
    "scopekeeper.scope.records", "scopekeeper.systemd", "scopekeeper.systemd.units",
}  # fmt: skip
LS = START | LOWER | {
    "scopekeeper.cli.cells", "scopekeeper.cli.empty", "scopekeeper.cli.ended_runs",
    "scopekeeper.cli.ends", "scopekeeper.cli.list_view", "scopekeeper.cli.ls_beneath",
    "scopekeeper.cli.ages", "scopekeeper.cli.ls_list", "scopekeeper.cli.ls_origins",
    "scopekeeper.cli.ls_rows", "scopekeeper.cli.ls_titles", "scopekeeper.cli.ls_unknown",
    "scopekeeper.cli.owner_title", "scopekeeper.cli.show", "scopekeeper.cli.table",
    "scopekeeper.cli.users",
    "scopekeeper.kernel.peers", "scopekeeper.kernel.unix_sockets", "scopekeeper.kernel.usage",
    "scopekeeper.scope.activity", "scopekeeper.scope.launched", "scopekeeper.scope.model",
    "scopekeeper.scope.record_parser", "scopekeeper.scope.resolve", "scopekeeper.scope.search",
    "scopekeeper.scope.selection", "scopekeeper.scope.snapshot",
}  # fmt: skip
EXEC = START | LOWER | {
    "scopekeeper.cli.exec_run",
    "scopekeeper.clients", "scopekeeper.clients.identity", "scopekeeper.clients.table",
    "scopekeeper.clients.variables",
    "scopekeeper.exec", "scopekeeper.exec.client", "scopekeeper.exec.messages",
    "scopekeeper.exec.protocol", "scopekeeper.exec.reach", "scopekeeper.exec.run",
    "scopekeeper.exec.silence", "scopekeeper.exec.start",
    "scopekeeper.keeper_address", "scopekeeper.launch.arguments", "scopekeeper.launch.program",
    "scopekeeper.launch.request", "scopekeeper.launch.run",
    "scopekeeper.policy", "scopekeeper.policy.cache_format", "scopekeeper.policy.cached",
    "scopekeeper.policy.files", "scopekeeper.regular_files", "scopekeeper.scope.choose_placement",
    "scopekeeper.scope.client", "scopekeeper.scope.owner", "scopekeeper.users",
    "scopekeeper.whole_file",
}  # fmt: skip
STARTED = {
    "scopekeeper.history", "scopekeeper.history.launch_ledger", "scopekeeper.launch.create_unit",
    "scopekeeper.launch.join", "scopekeeper.launch.member", "scopekeeper.launch.start_keeper",
    "scopekeeper.short_names", "scopekeeper.systemd.dbus_wire", "scopekeeper.systemd.lingering",
    "scopekeeper.systemd.manager",
}  # fmt: skip
"""What a detached run imports once a keeper has answered: in its child, and to look for linger."""
STOP = START | LOWER | {
    "scopekeeper.cli.cells", "scopekeeper.cli.interrupted", "scopekeeper.cli.outliving",
    "scopekeeper.cli.owned", "scopekeeper.cli.select_options", "scopekeeper.cli.show",
    "scopekeeper.cli.similar", "scopekeeper.cli.stop_cause", "scopekeeper.cli.stop_report",
    "scopekeeper.cli.stop_run", "scopekeeper.cli.table", "scopekeeper.cli.users",
    "scopekeeper.history", "scopekeeper.history.end", "scopekeeper.history.launch_ledger",
    "scopekeeper.history.recording", "scopekeeper.keeper_address",
    "scopekeeper.kernel.children", "scopekeeper.kernel.emptiness",
    "scopekeeper.kernel.job_control", "scopekeeper.kernel.mounts", "scopekeeper.kernel.oomd",
    "scopekeeper.kernel.open_files", "scopekeeper.kernel.peers", "scopekeeper.kernel.terminals",
    "scopekeeper.kernel.unix_sockets", "scopekeeper.kernel.usage",
    "scopekeeper.lifecycle", "scopekeeper.lifecycle.contradiction",
    "scopekeeper.lifecycle.escaped", "scopekeeper.lifecycle.held_target",
    "scopekeeper.lifecycle.label_lines", "scopekeeper.lifecycle.leavers",
    "scopekeeper.lifecycle.member_lines", "scopekeeper.lifecycle.observe",
    "scopekeeper.lifecycle.oom", "scopekeeper.lifecycle.remove", "scopekeeper.lifecycle.stop",
    "scopekeeper.lifecycle.stop_counts", "scopekeeper.lifecycle.stop_interrupted",
    "scopekeeper.lifecycle.stop_launched", "scopekeeper.lifecycle.stop_mark",
    "scopekeeper.lifecycle.stop_target", "scopekeeper.lifecycle.stop_witness",
    "scopekeeper.lifecycle.time_limit", "scopekeeper.lifecycle.unseen_ends",
    "scopekeeper.regular_files", "scopekeeper.scope.activity", "scopekeeper.scope.launched",
    "scopekeeper.scope.marker", "scopekeeper.scope.model", "scopekeeper.scope.nearby",
    "scopekeeper.scope.outside", "scopekeeper.scope.reason",
    "scopekeeper.scope.record_parser", "scopekeeper.scope.resolve", "scopekeeper.scope.search",
    "scopekeeper.scope.selection", "scopekeeper.scope.snapshot", "scopekeeper.state",
    "scopekeeper.systemd.logins", "scopekeeper.systemd.service_end", "scopekeeper.users",
    "scopekeeper.whole_file",
}  # fmt: skip
AFTER_A_STOP = {
    "scopekeeper.cli.unseen", "scopekeeper.history.bounds", "scopekeeper.history.journal",
    "scopekeeper.history.rows", "scopekeeper.history.scratch", "scopekeeper.history.store",
    "scopekeeper.history.totals", "scopekeeper.kernel.exit_status", "scopekeeper.short_names",
    "scopekeeper.systemd.journal",
}  # fmt: skip
"""What a stop imports when its targets have ended: for the history and the journal."""
PROGRAM = """
import sys
before = set(sys.modules)
sys.path.insert(0, {root!r})
import scopekeeper.kernel.proc
scopekeeper.kernel.proc.mount_point = lambda: {mount!r}
from scopekeeper.main import main
if {until_signal!r}:
    import signal
    send = signal.pidfd_send_signal
    def note(*given):
        for name in sorted(set(sys.modules) - before):
            sys.__stderr__.write("first " + name + chr(10))
        signal.pidfd_send_signal = send
        return send(*given)
    signal.pidfd_send_signal = note
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit:
    for name in sorted(set(sys.modules) - before):
        sys.__stderr__.write("imported " + name + chr(10))
    raise
"""


def call(*arguments, mount="/nonexistent"):
    """Call scopekeeper; return what it wrote, and what it imported."""
    given = {"root": str(ROOT), "arguments": list(arguments), "mount": str(mount)}
    program = PROGRAM.format(until_signal=arguments[0] == "stop", **given)
    ran = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    lines = ran.stderr.splitlines()
    imported = {line.removeprefix("imported ") for line in lines if line.startswith("imported ")}
    ran.stderr = "".join(f"{line}\n" for line in lines if not line.startswith("imported "))
    return ran, imported


def ours(imported):
    """Return the modules of the package."""
    return {name for name in imported if name.partition(".")[0] == "scopekeeper"}


def test_the_version_imports_next_to_nothing():
    ran, imported = call("--version")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"scopekeeper {scopekeeper.__version__}\n"
    proc = {"scopekeeper.kernel", "scopekeeper.kernel.proc"}  # of the test
    assert ours(imported) == START | proc | {"scopekeeper.version"}
    assert not imported & (SLOW | {"os", "re", "enum", "collections"})


def test_an_unknown_command_imports_next_to_nothing():
    ran, imported = call("lst")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "scopekeeper: No such command 'lst'. Did you mean 'ls'? See `scopekeeper --help`\n"
    )
    proc = {"scopekeeper.kernel", "scopekeeper.kernel.proc"}
    more = {"scopekeeper.cli.commands", "scopekeeper.cli.unknown_command", "scopekeeper.safe_text"}
    assert ours(imported) == START | proc | more
    assert not imported & (SLOW | {"os", "re", "enum"})


def test_a_list_without_scopes_imports_what_is_written_down(tmp_path):
    ran, imported = call("ls", mount=tmp_path)
    assert (ran.returncode, ran.stdout.count("\n")) == (0, 1)
    assert ours(imported) <= LS
    assert not imported & (SLOW | {"re", "json", "socket"})


@pytest.fixture
def folder():
    """Return a cgroup for scopes, which is removed afterwards."""
    made = Path(mount_point(), f"scopekeeper-test-{os.getpid()}")
    made.mkdir()
    yield made
    cgroupfs.kill(str(made))
    assert eventually(lambda: cgroupfs.remove(str(made)))


@pytest.fixture
def member(folder):
    """Run a member of session imports in that cgroup until the test is over."""
    with subprocess.Popen(
        [sys.executable, "-m", "scopekeeper", "run", "--placement", f"cgroup:{folder}",
         "-s", "imports", "--", "cat"], stdin=subprocess.PIPE, cwd=ROOT,
    ) as process:  # fmt: skip
        while not any(p.read_text() for p in folder.glob("*.scope/m-cat.*/cgroup.procs")):
            assert process.poll() is None
        yield process
        process.stdin.close()


@pytest.mark.root
@pytest.mark.usefixtures("member")
def test_a_list_of_scopes_imports_no_more(folder):
    ran, imported = call("ls", mount=folder)
    assert "imports" in ran.stdout
    assert "running" in ran.stdout
    assert ours(imported) <= LS
    assert not imported & (SLOW | {"re", "json", "socket"})


@pytest.mark.root
def test_a_stop_imports_what_is_written_down_before_its_first_signal(folder, member, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
        ran, imported = call("stop", "-s", "imports", mount=folder)
    assert ran.returncode == 0
    assert member.wait() == -signal.SIGTERM
    first = {line.split()[1] for line in ran.stderr.splitlines() if line.startswith("first ")}
    assert ours(first) <= STOP
    assert not first & (SLOW | {"re", "json", "socket", "struct"})
    assert "scopekeeper.history.store" in imported - first  # and more, if others have ended too
    assert "click" not in imported


def test_a_stop_of_nothing_needs_no_click(tmp_path):
    ran, imported = call("stop", "-s", "none", mount=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "Nothing matched; `scopekeeper ls` lists what there is.\n"
    assert "click" not in imported


def test_a_detached_run_imports_what_is_written_down():
    """An invalid lifetime is found after everything is imported, and before a keeper is asked."""
    ran, imported = call("exec", "-d", "--lifetime", "mars", "--", "true", mount=mount_point())
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "unknown lifetime 'mars'" in ran.stderr
    assert ours(imported) <= EXEC
    assert {"scopekeeper.exec.start", "scopekeeper.exec.client"} <= imported
    assert not imported & SLOW


def test_a_run_that_has_started_imports_nothing_slow():
    program = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); "
        f"import {', '.join(sorted(EXEC | STARTED))}; print(*set(sys.modules) - before)"
    )
    ran = subprocess.run(
        [sys.executable, "-IS", "-c", program, str(ROOT)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(ran.stdout.split())
    assert ours(imported) == EXEC | STARTED
    assert not imported & SLOW


@pytest.mark.parametrize("arguments", [
    ("--version", "--version"), ("ls", "--mars"), ("exec", "--mars"), ("exec", "-d"),
    ("exec", "-d", "--run", "x", "--", "true"), ("exec", "-d", "--stderr", "x", "--", "true"),
    ("exec", "-d", "-s", "a", "-s", "b", "--", "true"),
    ("exec", "--pipe", "--json", "--", "true"), ("exec", "-d", "--cols", "0", "--", "true"),
    ("-v",), ("stop", "--mars"), ("stop", "-s"), ("stop", "-s", ""), ("stop", "--session="),
    ("stop", "-s", "a", "-s", "b"), ("stop", "-sa", "--json", "--mars"),
])  # fmt: skip
def test_click_handles_all_else(arguments):
    ran = subprocess.run(
        [sys.executable, "-m", "scopekeeper", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert ran.returncode in (0, 2)
    assert len((ran.stdout + ran.stderr).splitlines()) == 1


def test_both_ways_report_an_error_of_a_detached_run_alike():
    answers = []
    for words in (("--lifetime", "mars"), ("--lifetime", "mars", "--cols", "80")):
        ran = subprocess.run(
            [sys.executable, "-m", "scopekeeper", "exec", "-d", *words, "--", "true"],
            capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        answers.append((ran.returncode, ran.stdout, ran.stderr))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("words", [
    (), ("-s", "none"), ("none",), ("none", "-l", "main"), ("--session=none", "--grace", "3y"),
    ("--run", "none"), ("--name=none", "--note", "why"),
])  # fmt: skip
def test_both_ways_answer_a_stop_alike(words, tmp_path):
    answers = []
    for more in ((), ("--reason", "by click")):
        ran = subprocess.run(
            [sys.executable, "-m", "scopekeeper", "stop", *words, *more],
            capture_output=True, text=True, cwd=ROOT,
            env={**os.environ, "SCOPEKEEPER_STATE": str(tmp_path / "state")},
        )  # fmt: skip
        answers.append((ran.returncode, ran.stdout, ran.stderr))
    assert answers[0] == answers[1]


def test_a_version_that_nobody_reads_is_reported_by_click():
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "scopekeeper", "--version"], stdout=writing,
        stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, b"")


@given(st.text("abcdeé-", max_size=9), st.lists(st.text("abcdeé-", max_size=9), max_size=9))
def test_the_closest_text_is_that_of_difflib(word, known):
    wanted = difflib.get_close_matches(word, known, n=1)
    assert closest(word, known) == (wanted[0] if wanted else "")


@pytest.mark.parametrize("word", [
    "", "l", "lst", "kil", "stopp", "stats", "reconcil", "docter", "xyz", "hystory", "atach",
    "brage", "psx", "version", "wrapp", "uninstal", "polcy", "é", "a" * 300,
])  # fmt: skip
def test_the_closest_name_is_as_close_as_that_of_difflib(word):
    names = [*MEANT, *COMMANDS]
    wanted = difflib.get_close_matches(word, names, n=1)
    found = closest(word, list(COMMANDS), MEANT)
    assert bool(found) == bool(wanted)
    if found:
        best = difflib.SequenceMatcher(None, wanted[0], word).ratio()
        alike = [x for x in names if difflib.SequenceMatcher(None, x, word).ratio() == best]
        assert found in alike
        assert found in COMMANDS or not set(alike) & set(COMMANDS)


def test_all_of_it_is_compiled_into_the_launcher():
    more = {"scopekeeper.version", "scopekeeper.cli.commands", "scopekeeper.cli.unknown_command"}
    assert sorted(calls.MODULES) == sorted(LS | EXEC | STARTED | more)
    assert sorted(calls.OF_STOP) == sorted((STOP | AFTER_A_STOP) - {*calls.MODULES})


def test_only_options_of_exec_are_read_without_click():
    from scopekeeper.cli import exec as by_click
    from scopekeeper.cli import plain_calls
    from scopekeeper.launch import arguments

    known = {each.name for each in by_click.command.params}
    plain = {*arguments._VALUED.values(), *arguments.FLAGS.values(), *arguments.REPEATED.values()}
    assert plain - set(plain_calls.NOT_OF_EXEC) <= known
    assert not known & set(plain_calls.NOT_OF_EXEC)


def test_only_options_of_stop_are_read_without_click():
    from scopekeeper.cli import plain_calls
    from scopekeeper.cli import stop as by_click

    known = {word: each.name for each in by_click.command.params for word in each.opts}
    assert plain_calls.OF_STOP.items() <= known.items()


@pytest.mark.parametrize("option", ["--run", "--kind", "--if-unavailable", "--stderr"])
def test_an_option_of_run_that_exec_has_not_is_refused(option):
    ran = subprocess.run(
        [sys.executable, "-m", "scopekeeper", "exec", "-d", option, "pty", "--", "true"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"No such option '{option}'" in ran.stderr
