"""`scopekeeper hook`: it returns at once whatever it gets, and acts only on a proved end."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scopekeeper
from scopekeeper.clients import hooks, known
from scopekeeper.clients.parse import ClientsError, merge
from scopekeeper.clients.table import TABLE
from scopekeeper.hook import client_label, client_process, detached, event
from scopekeeper.hook.client_process import ClientProcess, Watch
from scopekeeper.kernel import proc
from scopekeeper.systemd import journal
from tests.machine import eventually, text_of

ROOT = Path(scopekeeper.__file__).parents[1]
ID = "5e0c21ab-0000-4000-8000-000000000000"
END = {"session_id": ID, "hook_event_name": "SessionEnd", "reason": "other"}
IDS = ("session_id", "sessionId")


# what a client writes


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*IDS, "reason", "x"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_of_any_bytes_only_valid_fields_come_out(text):
    found = event.parse(text, IDS)
    assert len(found.session_id) <= 128
    assert set(found.session_id.replace("-", "").replace("_", "").replace(".", "")) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    )
    assert len(found.reason) <= 64


@pytest.mark.parametrize("text", [
    b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff", b"null", b"[]", b'"x"',
    b'{"session_id": 7, "reason": []}', b'{"session_id": "../x", "reason": null}',
    b'{"session_id": "\\ud800"}', b'{"reason": "other", "reason": "clear"}',
    b'{"reason": "other", "x": NaN}', json.dumps({"reason": "x" * 65}).encode(),
])  # fmt: skip
def test_broken_input_is_an_event_without_fields(text):
    assert event.parse(text, IDS) == event.Event()


def test_the_first_key_with_a_value_has_the_id():
    assert event.parse(b'{"sessionId": "a", "session_id": "b"}', IDS).session_id == "b"
    assert event.parse(b'{"sessionId": "a", "session_id": ""}', IDS).session_id == "a"


def written(content, *, ends):
    """Return what is read of a pipe with this content, and whether its writer found no reader."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.set_blocking(theirs, True)
        try:
            while content:
                content = content[os.write(theirs, content) :]
        except BrokenPipeError:
            os._exit(1)
        if not ends:
            signal.pause()
        os._exit(0)
    os.close(theirs)
    try:
        return event.read(ours, 60 if ends else 0.2)
    finally:
        assert not os.path.exists(f"/proc/self/fd/{ours}")
        if not ends:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in ((0,) if ends else (-signal.SIGKILL,))


def test_input_is_read_to_its_end_or_for_a_while():
    assert written(b"x" * event.SIZE_MAX, ends=True) == b"x" * event.SIZE_MAX
    assert written(b"", ends=True) == b""
    began = time.monotonic()
    assert written(b"{}", ends=False) == b"{}"
    assert time.monotonic() - began < 60


def test_too_much_input_is_read_and_forgotten():
    for size in (event.SIZE_MAX + 1, 3 * event.SIZE_MAX):
        assert written(b"x" * size, ends=True) == b""


def test_what_cannot_be_read_is_empty(tmp_path):
    for flags in (os.O_RDONLY | os.O_DIRECTORY, os.O_WRONLY | os.O_TMPFILE):
        fd = os.open(tmp_path, flags)
        assert event.read(fd) == b""


# which process the client is


def ancestor(pid, name, *command, start=7):
    fields = ["S", "1", "1", "1", *["0"] * 15, str(start), *["0"] * 30]
    return pid, f"{pid} ({name}) {' '.join(fields)}", "\0".join((*command, ""))


SHELL = ancestor(30, "sh", "/bin/sh", "-c", "scopekeeper hook x y")
NODE = ancestor(20, "node", "/usr/bin/node", "--max-old-space-size=8", "/x/bin/gemini.js")
OUTER = ancestor(10, "claude", "claude")


@pytest.mark.parametrize(
    ("above", "client", "variable", "found"),
    [
        ([SHELL, NODE, OUTER], "gemini", "", ClientProcess(20, 7, is_known=True)),
        ([NODE], "gemini", "", ClientProcess(20, 7, is_known=True)),
        ([SHELL, NODE, OUTER], "claude-code", "10", None),
        ([SHELL, OUTER], "claude-code", "99", ClientProcess(10, 7, is_known=True)),
        ([SHELL, ancestor(20, "x", "/x"), OUTER], "claude-code", "20",
         ClientProcess(20, 7, is_known=False)),
        ([SHELL, ancestor(20, "x", "/x"), ancestor(9, "y", "y")], "claude-code", "",
         ClientProcess(20, 7, is_known=False)),
        ([SHELL], "claude-code", "", None),
        ([], "claude-code", "1", None),
    ],
)  # fmt: skip
def test_the_client_is_the_nearest_one_above_the_hook(above, client, variable, found):
    assert client_process.find(above, TABLE, client, variable) == found


def test_an_end_is_that_of_one_process_and_not_of_its_pid():
    with subprocess.Popen(["sleep", "600"]) as process:
        start = int(proc.start_time(process.pid))
        watch = Watch(ClientProcess(process.pid, start, is_known=True))
        assert not watch.has_ended(0)
        earlier = Watch(ClientProcess(process.pid, start - 1, is_known=True))
        assert earlier.has_ended(0), "another process has its pid now"
        process.kill()
        assert watch.has_ended(60), "nobody has reaped it yet"
        assert Watch(ClientProcess(process.pid, start, is_known=True)).has_ended(0)
        process.wait()
    assert Watch(ClientProcess(process.pid, start, is_known=True)).has_ended(0)


# the table


def test_each_hook_is_that_of_a_client_with_a_prefix():
    clients = known.read([])
    with_hooks = {each.short: each.hooks for each in clients if each.hooks and each.is_looked_for}
    assert {"claude", "codex", "copilot", "gemini", "hermes"} == set(with_hooks)
    for entry in with_hooks.values():
        assert entry.start
        assert entry.end
        assert not set(entry.keeps) & set(entry.drops)


def test_a_user_adds_a_client_and_overrides_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path))
    hooks_of_mine = 'end = ["bye"]\nshared = ["serve", "--many"]\n'
    text = f'[mine]\nprograms = ["mine"]\n[mine.hooks]\n{hooks_of_mine}[claude.hooks]\nkeeps = []\n'
    (tmp_path / "clients.toml").write_text(text)
    clients = known.read([])
    mine = known.named("mine", clients).hooks
    assert mine == hooks.Hooks(end=("bye",), shared=("serve", "--many"))
    assert mine.is_shared(["mine", "x", "serve"])
    assert not mine.is_shared(["mine", "server", "--many=2"])
    claude = known.named("claude", clients)
    assert claude is known.named("claude-code", clients)
    assert not claude.hooks.is_shared(["claude"])
    assert (claude.hooks.end, claude.hooks.keeps) == (("SessionEnd",), ())


def test_with_a_wrong_table_only_the_built_in_clients_count(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path))
    (tmp_path / "clients.toml").write_text("[claude.hooks]\nend = 7\n")
    warnings = []
    clients = known.read(warnings)
    assert known.named("claude", clients).hooks.end == ("SessionEnd",)
    (line,) = warnings
    assert line.startswith(f"{tmp_path}/clients.toml: [claude]: hooks.end is a list")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hooks = 7", "hooks is a table; write [NAME.hooks]"),
        ("hooks.ends = []", "unknown key ends; did you mean end?"),
        ("hook.end = []", "unknown key hook; did you mean hooks?"),
        ('hooks.end = ["x", 7]', "hooks.end is a list of up to 8 words"),
        (f"hooks.end = {['x'] * 9}", "hooks.end is a list of up to 8 words"),
        ('hooks.end = [""]', "hooks.end is a list"),
        ('hooks.shared = "serve"', "hooks.shared is a list of up to 8 words"),
        ('hooks.pid = "A-B"', "hooks.pid is the name of a variable"),
        ("hooks.pid = 7", "hooks.pid is the name of a variable"),
    ],
)
def test_a_wrong_table_of_hooks_is_one_line(text, words):
    with pytest.raises(ClientsError) as caught:
        merge([("/etc/x.toml", f'[mine]\nprograms = ["mine"]\n{text}')])
    assert str(caught.value).startswith("/etc/x.toml: [mine]: ")
    assert words in str(caught.value)


# the process that is left behind


@pytest.fixture
def lines(monkeypatch):
    """Return the lines that would be in the journal."""
    found = []
    monkeypatch.setattr(
        journal, "send", lambda entries: found.extend(e["MESSAGE"] for e in entries)
    )
    return found


WORDS = st.lists(
    st.sampled_from(["claude", "codex", "SessionEnd", "SessionStart", "on_session_finalize"])
    | st.text(max_size=80),
    max_size=3,
)


@given(words=WORDS, text=st.binary(max_size=64), pid=st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8
))  # fmt: skip
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_it_gets_it_calls_nothing_without_a_client(lines, words, text, pid):
    del lines[:]
    ours, theirs = os.pipe()
    os.write(theirs, text)
    os.close(theirs)
    called = []
    os.environ["CLAUDE_PID"] = pid
    try:
        detached.run(words, ours, [], 0.0, called.append)
    finally:
        del os.environ["CLAUDE_PID"]
    assert called == []
    assert all("\n" not in line and "Error" not in line for line in lines)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["mars", "SessionEnd"], "hook mars SessionEnd: no such client; known: claude, codex, "),
        (["claude", "Stop"], "hook claude Stop: no event of this client; known: SessionStart, Ses"),
        (["claude"], "hook claude: it takes a client and an event: scopekeeper hook CLIENT EVENT"),
        (["\x1b[31m", "x" * 99], "hook \\x1b[31m " + "x" * 64 + ": no such client"),
    ],
)
def test_what_is_unknown_is_one_line_in_the_journal(lines, words, text):
    detached.run(words, -1, [], 0.0, lambda _: None)
    (line,) = lines
    assert line.startswith(text)


@pytest.mark.parametrize(
    ("above", "words", "fields"),
    [
        ([ancestor(20, "codex", "codex", "app-server", "--listen")], "codex SessionStart", END),
        ([ancestor(20, "node", "node", "/x/gemini", "--acp")], "gemini SessionStart", END),
        ([ancestor(20, "x", "/x")], "codex SessionStart", END),
        ([OUTER], "codex SessionStart", END),
        ([ancestor(20, "codex", "codex")], "codex SessionStart", {}),
        ([ancestor(20, "codex", "codex")], "codex SessionStart", {"session_id": "../x"}),
        ([ancestor(20, "codex", "codex")], "codex SessionStart", {"session_id": ["x"]}),
    ],
)
def test_a_start_that_is_not_one_session_of_the_client_labels_nothing(
    lines, monkeypatch, above, words, fields
):
    monkeypatch.setattr(client_label, "give", lambda *given: f"labelled {given}")
    ours, theirs = os.pipe()
    os.write(theirs, json.dumps(fields).encode())
    os.close(theirs)
    detached.run(words.split(), ours, above, 0.0, lambda _: None)
    assert lines == []


def test_the_start_of_a_session_labels_what_its_process_has_started(lines, monkeypatch):
    given = []
    monkeypatch.setattr(client_label, "give", lambda *all_: given.append(all_) or "it is so")
    ours, theirs = os.pipe()
    os.write(theirs, json.dumps(END).encode())
    os.close(theirs)
    above = [SHELL, ancestor(20, "codex", "codex", "exec", "app-server is a word in a prompt")]
    detached.run(["codex", "SessionStart"], ours, above, 9.0, lambda _: None)
    assert given == [(ClientProcess(20, 7, is_known=True), "codex", ID, 9.0)]
    assert lines == ["hook codex SessionStart: it is so"]


def test_a_client_that_has_ended_is_not_waited_for():
    ended = ClientProcess(os.getpid(), 1, is_known=True)
    began = time.monotonic()
    assert client_label.give(ended, "codex", ID, time.time()) == ""
    assert time.monotonic() - began < client_label.PATIENCE


def test_an_error_is_one_line_in_the_journal(lines, monkeypatch):
    monkeypatch.setattr(known, "read", lambda _: 1 / 0)
    detached.run(["claude", "SessionEnd"], -1, [], 0.0, lambda _: None)
    assert lines == ["hook claude SessionEnd: ZeroDivisionError: division by zero"]


# the whole of it, called by a client

DRIVER = f"""\
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from scopekeeper.hook import detached
from scopekeeper.hook.front import hook
detached.scopes_of = lambda session: [f"unit of {{session}}"]  # there is no systemd
def then(words):
    with open(CALLS, "a") as calls:
        calls.write(" ".join([os.environ.get("SCOPEKEEPER_OWNER", "-"), *words]) + "\\n")
hook(sys.argv[1:], then)
"""


class Client:
    """A shell of the client's name, which calls its hook as it is asked to."""

    def __init__(self, folder, name):
        folder.mkdir()
        self.folder = folder
        program = folder / name
        program.write_text('#!/bin/sh\nwhile read -r line; do eval "$line"; echo "$?"; done\n')
        program.chmod(0o755)
        (folder / "driver").write_text(f"CALLS = {str(folder / 'calls')!r}\n{DRIVER}")
        self.hook = shlex.join([sys.executable, "-IS", str(folder / "driver")])
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True, cwd=folder,
        )  # fmt: skip

    def run(self, line):
        """Have the client run a line of shell; return its exit status."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end_session(self, words, text):
        """Call the hook with a text on stdin; return what it printed."""
        (self.folder / "event").write_bytes(text if isinstance(text, bytes) else text.encode())
        assert self.run(f"{self.hook} {words} < event > printed 2>&1") == 0
        return (self.folder / "printed").read_text()

    def end(self):
        self.process.kill()
        self.process.communicate()

    @property
    def calls(self):
        return text_of(self.folder / "calls").splitlines()

    @property
    def left(self):
        """The pids of the processes that the hook left behind and that still live."""
        words = f"{self.folder}/driver\0"
        return [int(each) for each in os.listdir("/proc")
                if each.isdecimal() and words in text_of(f"/proc/{each}/cmdline")]  # fmt: skip


@pytest.fixture
def client(tmp_path):
    made = []

    def start(name):
        made.append(Client(tmp_path / f"a client {len(made)}", name))
        return made[-1]

    yield start
    for each in made:
        each.end()
    for each in made:
        for pid in each.left:
            with contextlib.suppress(ProcessLookupError):  # it may end by itself
                os.kill(pid, signal.SIGKILL)
        eventually(lambda each=each: not each.left)


def test_it_reconciles_for_the_client_once_that_has_ended(client):
    one, other = client("claude"), client("claude")
    assert one.end_session("claude SessionEnd", json.dumps(END)) == ""
    assert other.end_session("claude SessionEnd", json.dumps(END)) == ""
    (pid,) = eventually(lambda: one.left)
    assert os.getsid(pid) == os.getpgid(pid) == pid, "it outlives the hook's process group"
    eventually(lambda: {os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)} == {"/dev/null"})
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    one.end()
    eventually(lambda: one.calls)
    assert one.calls == [f"- reconcile --owner {one.process.pid}"]
    assert other.calls == []
    eventually(lambda: not one.left)


@pytest.mark.parametrize("text", [
    "", "no JSON", "{}", '{"reason": 7}', b"\0\xff\n", b"{" * 100_000, b"x" * (event.SIZE_MAX + 9),
], ids=lambda text: str(text[:8]))  # fmt: skip
def test_any_input_is_an_end(client, text):
    one = client("claude")
    assert one.end_session("claude SessionEnd", text) == ""
    one.end()
    eventually(lambda: one.calls)


@pytest.mark.parametrize(
    "streams", ["<&-", "<&- >&- 2>&-", ">&-", "2>&- <&-", "< event", "<> event"]
)
def test_closed_and_wrong_streams_are_an_end_too(client, streams):
    one = client("claude")
    (one.folder / "event").write_text("")
    assert one.run(f"{one.hook} claude SessionEnd {streams}") == 0
    one.end()
    eventually(lambda: one.calls)


def test_after_clear_nothing_is_done(client):
    one = client("claude")
    assert one.end_session("claude SessionEnd", json.dumps(END | {"reason": "clear"})) == ""
    one.end()
    eventually(lambda: not one.left)
    assert one.calls == []


def test_a_key_that_is_only_text_is_no_reason(client):
    one = client("claude")
    one.end_session("claude SessionEnd", json.dumps(END | {"cwd": '/a "reason":"clear"'}))
    one.end()
    eventually(lambda: one.calls)


def test_it_waits_neither_for_its_input_nor_for_the_readers_of_its_output(client):
    """A FIFO that the client keeps open for writing, and a pipe of its own to read from."""
    one = client("claude")
    os.mkfifo(one.folder / "input")
    line = f"printed=$({one.hook} claude SessionEnd < input 9>&1)"
    assert one.run("exec 7<> input") == 0
    assert one.run(line) == 0
    assert one.run('test -z "$printed"') == 0
    assert one.left
    one.end()
    eventually(lambda: one.calls)


def test_the_client_may_kill_the_process_group_of_its_hook(client):
    one = client("claude")
    line = f"{one.hook} claude SessionEnd < /dev/null; kill -9 0"
    assert one.run(f"setsid -w sh -c {shlex.quote(line)} 2> /dev/null") != 0
    one.end()
    eventually(lambda: one.calls)


def test_three_calls_at_once_are_three_reconciles(client):
    one = client("gemini")
    line = f"{one.hook} gemini SessionEnd < /dev/null"
    assert one.run(f"{line} & {line} & {line} & wait") == 0
    one.end()
    eventually(lambda: len(one.calls) == 3)
    assert len(set(one.calls)) == 1


def test_a_client_that_ignores_the_end_of_its_children_is_no_obstacle(client):
    """A hook inherits that, and its commands could not be waited for."""
    one = client("codex")
    text = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    text += "os.execv(sys.argv[1], sys.argv[1:])"
    one.hook = shlex.join([sys.executable, "-c", text, *shlex.split(one.hook)])
    one.end_session("codex SessionEnd", json.dumps(END))
    eventually(lambda: one.calls)
    one.end()
    eventually(lambda: len(one.calls) == 2)


def test_the_start_of_a_session_and_unknown_words_do_nothing(client):
    one = client("claude")
    for words in ("claude SessionStart", "claude Stop", "mars SessionEnd", "", "claude", "a b c"):
        assert one.end_session(words, json.dumps(END)) == ""
    one.end()
    eventually(lambda: not one.left)
    assert one.calls == []


def test_the_hook_of_another_client_is_none_of_this_one(client):
    """Clients read each other's settings; a session of that name is another one."""
    one = client("copilot")
    assert one.end_session("claude SessionEnd", json.dumps(END)) == ""
    one.end()
    eventually(lambda: not one.left)
    assert one.calls == []


@pytest.mark.parametrize(
    ("name", "words", "key", "reason"),
    [("codex", "codex SessionEnd", "session_id", "other"),
     ("copilot", "copilot sessionEnd", "sessionId", "user_exit")],
)  # fmt: skip
def test_a_client_that_goes_on_loses_the_session_that_has_ended(client, name, words, key, reason):
    one = client(name)
    one.end_session(words, json.dumps({key: ID, "reason": reason}))
    eventually(lambda: one.calls)
    (line,) = one.calls
    pid, rest = line.split(" ", 1)
    command, _, moment = rest.partition(" --started-before @")
    assert (pid, command) == (
        str(one.process.pid), f"stop unit of {name}:{ID} --mine --lifetime gateway",
    )  # fmt: skip
    began = (one.folder / "event").stat().st_mtime
    assert began - 1 < float(moment.partition(" ")[0]) < began + 600
    one.end()
    eventually(lambda: len(one.calls) == 2)
    assert one.calls[1] == f"- reconcile --owner {one.process.pid}"


def test_without_an_id_and_a_reason_it_only_waits_for_the_end(client):
    """The stop of a later one is the sign that theirs would have been called by now."""
    ones = []
    for fields in (
        {"reason": "complete", "sessionId": ID},
        {"sessionId": ID},
        {"reason": "user_exit"},
        {"reason": "user_exit", "sessionId": "../x"},
    ):
        ones.append(client("copilot"))
        ones[-1].end_session("copilot sessionEnd", json.dumps(fields))
    later = client("copilot")
    later.end_session("copilot sessionEnd", json.dumps({"reason": "user_exit", "sessionId": ID}))
    eventually(lambda: later.calls)
    assert [one.calls for one in ones] == [[]] * 4
    for one in ones:
        one.end()
        eventually(lambda one=one: one.calls)
        assert one.calls == [f"- reconcile --owner {one.process.pid}"]


def test_a_process_that_is_only_the_caller_loses_nothing_while_it_runs(client):
    """It has not the name of the client, so the session may be that of another process."""
    one, later = client("mars"), client("codex")
    one.end_session("codex SessionEnd", json.dumps(END))
    later.end_session("codex SessionEnd", json.dumps(END))
    eventually(lambda: later.calls)
    assert one.calls == []
    one.end()
    eventually(lambda: one.calls)
    assert one.calls == [f"- reconcile --owner {one.process.pid}"]


def test_a_client_that_has_ended_meanwhile_is_only_reconciled(client):
    one = client("codex")
    one.end_session("codex SessionEnd", json.dumps(END))
    one.end()
    eventually(lambda: one.calls)
    eventually(lambda: not one.left)
    assert one.calls == [f"- reconcile --owner {one.process.pid}"]
