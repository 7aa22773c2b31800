"""Hosts: which names are taken, how a call is quoted, what of an answer is believed."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.cli import completion
from scopekeeper.cli.main import group
from scopekeeper.cli.on_hosts import call
from scopekeeper.cli.on_hosts.call import Plan, sent, worst
from scopekeeper.cli.on_hosts.options import HOST
from scopekeeper.errors import FAILED, ScopekeeperError, UsageError
from scopekeeper.hosts import ask as asking
from scopekeeper.hosts import groups, names, ssh
from scopekeeper.hosts.answer import BadAnswerError, Fields, parse, read
from scopekeeper.hosts.ask import Reply, ask
from tests.machine import eventually, is_alive

WITH_HOSTS = ("ls", "ps", "ports", "why", "history", "stop", "reconcile", "doctor", "metrics")
SHELLS = [name for name in ("sh", "bash", "dash", "zsh", "fish", "busybox") if shutil.which(name)]


@pytest.mark.parametrize(
    "host",
    ["a", "build-1.example.org", "me@build1", "root@10.0.0.1", "::1", "me@fe80::1", "1", "_x"],
)
def test_a_host_is_taken_as_ssh_takes_it(host):
    assert names.check(host) == host


@pytest.mark.parametrize(
    "host",
    ["", "-oProxyCommand=x", "@", "a@", "@a", "-l@a", "a b", "a\nb", "a;b", "$(a)", "a%h", "a/b",
     "ssh://a", "a:22", "me@a:22", "me@-a", "a" * 300, "é", "a'b", "m e@a", "x@y@z",
     ":::" + "1" * 50],
)  # fmt: skip
def test_any_other_host_is_refused_in_one_line(host):
    with pytest.raises(UsageError, match=r"\A[^\n]+\Z"):
        names.check(host)


FILE = """\
[groups]
build = ["build1", "me@build2"]
all = ["build1", "gateway"]
none = []
"""


def test_groups_and_hosts_are_each_asked_once_in_their_order():
    known = groups.parse("f", FILE)
    assert groups.resolve(["x", "@build", "@all", "x"], known) == [
        "x", "build1", "me@build2", "gateway",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="there is no group '@bild'; there are @build, @all"):
        groups.resolve(["@bild"], known)
    with pytest.raises(UsageError, match="has no hosts"):
        groups.resolve(["@none"], known)
    with pytest.raises(UsageError, match="256 at most"):
        groups.resolve([f"h{n}" for n in range(257)], known)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "unknown table 'x'; write"),
        ("groups = 1", "groups is no table"),
        ("[groups]\na = 1", "f: a: it is a list of hosts"),
        ("[groups]\na = [1]", "f: a: it is a list of hosts"),
        ('[groups]\na = ["-x"]', "f: a: '-x' is no host"),
        ('[groups]\n"a b" = ["x"]', "a group's name has letters"),
        ("[groups]\na = [", "f: "),
        ("a = " + "[" * 5000, "f: "),
    ],
)
def test_a_wrong_table_of_hosts_is_one_line_with_its_place(text, words):
    with pytest.raises(groups.HostsError, match=rf"\A[^\n]*{re.escape(words)}[^\n]*\Z"):
        groups.parse("f", text)


def test_the_files_are_those_beside_the_policy_and_a_foreign_one_does_not_count(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path))
    warnings = []
    assert groups.load(warnings) == {}
    (tmp_path / groups.FILE).write_text(FILE)
    assert list(groups.load(warnings)) == ["build", "all", "none"]
    assert warnings == []
    (tmp_path / groups.FILE).chmod(0o666)
    assert groups.load(warnings) == {}
    assert warnings[0].endswith(f"others can write to it; chmod go-w {tmp_path}/{groups.FILE}")
    (tmp_path / groups.FILE).chmod(0o600)
    (tmp_path / groups.FILE).write_bytes(b"\xff")
    with pytest.raises(groups.HostsError, match="not UTF-8"):
        groups.load(warnings)


def test_hosts_and_groups_are_completed(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path))
    (tmp_path / groups.FILE).write_text(FILE)
    names_of = completion._OPTIONS[HOST]
    assert {"@build", "@all", "build1", "me@build2", "gateway"} <= set(names_of())
    assert HOST in {each.metavar for each in context_of(["ls"]).command.params}


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def spoken(shell, words):
    """Return what a shell makes of words that were quoted."""
    program = [shell, "sh"] if shell == "busybox" else [shell]
    show = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
    line = " ".join([show, *map(ssh.quote, words)])
    done = subprocess.run([*program, "-c", line], capture_output=True, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("shell", SHELLS)
def test_words_come_through_any_shell_as_they_are(shell):
    words = [
        *("", " ", "a b", "it's", "a\\b", "\\", "\\\\'", "$HOME", "`x`", "$(x)", "*", "~", "a\nb"),
        *("--where=memory>1G", "!x", "é…", "#", "-n", ";", "&", '"', "a\tb", "{a,b}", "%s"),
    ]
    assert spoken(shell, words) == words


@given(st.lists(WORDS, max_size=5))
def test_any_word_comes_through_sh(words):
    assert spoken("sh", words) == words


def test_the_call_never_asks_and_the_host_is_no_option():
    words = ssh.words("me@a", ["ls", "--json"])
    assert words[0] == "ssh"
    assert "BatchMode=yes" in words
    assert f"ConnectTimeout={ssh.CONNECT}" in words
    assert words[-3:-1] == ["--", "me@a"]
    assert not any("ControlPath" in word for word in words)


def replies_to(scripts, seconds=30.0):
    found = {}
    ask({host: ["sh", "-c", script] for host, script in scripts.items()}, seconds, found)
    return found


def test_each_reply_has_its_output_and_status():
    found = replies_to({"a": "echo out; echo err >&2; exit 3", "b": "kill -9 $$"})
    assert found["a"] == Reply(3, b"out\n", b"err\n", "")
    assert (found["b"].status, found["b"].out) == (-9, b"")


def test_they_run_at_once_and_no_more_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "AT_ONCE", 3)
    # each waits until three have come: one after the other would never end
    come, run = tmp_path / "come", tmp_path / "run"
    come.mkdir()
    run.mkdir()
    wait = f"touch {come}/$$; while [ $(ls {come} | wc -l) -lt 3 ]; do sleep 0.01; done"
    found = replies_to({str(at): wait for at in range(3)})
    assert {reply.status for reply in found.values()} == {0}
    found = replies_to({
        str(at): f"touch {run}/$$; sleep 0.05; ls {run} | wc -l; rm {run}/$$" for at in range(9)
    })  # fmt: skip
    assert len(found) == 9
    assert max(int(reply.out) for reply in found.values()) <= 3


def test_what_takes_too_long_or_prints_too_much_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "MOST_OUT", 1 << 20)
    pids = tmp_path / "pids"
    found = replies_to(
        {
            "slow": f"echo $$ >>{pids}; echo part; exec sleep 1000",
            "loud": f"echo $$ >>{pids}; exec yes",
            "errs": "head -c 1000000 /dev/zero | tr '\\0' x >&2",
            "good": "echo yes",
        },
        seconds=1.5,
    )
    assert found["slow"].problem == "no answer in time"
    assert found["loud"].problem == "its answer is longer than 1M"
    assert (found["loud"].out, found["good"].out) == (b"", b"yes\n")
    assert (found["errs"].status, len(found["errs"].err)) == (0, asking.MOST_ERR)
    for pid in pids.read_text().split():
        assert not is_alive(int(pid))


def test_a_connection_that_stays_open_does_not_hold_the_answer(tmp_path):
    """The master that ssh leaves behind can have the pipe of standard error still."""
    pid = tmp_path / "pid"
    began = time.monotonic()
    try:
        found = replies_to({"a": f"sleep 1000 & echo $! >{pid}; echo yes"})
        assert time.monotonic() - began < 25
        assert found["a"] == Reply(0, b"yes\n", b"", "")
        assert is_alive(int(pid.read_text()))
    finally:
        os.kill(int(pid.read_text()), 9)


def test_an_interrupted_call_ends_its_programs_and_keeps_the_replies(tmp_path, monkeypatch):
    pid, found, real = tmp_path / "pid", {}, asking._close

    def close(*arguments):
        real(*arguments)
        eventually(lambda: pid.exists() and pid.read_text())

    def interrupt(*_):
        if found:
            raise KeyboardInterrupt
        return ready(*_)

    ready = asking._ready
    monkeypatch.setattr(asking, "_close", close)
    monkeypatch.setattr(asking, "_ready", interrupt)
    calls = {"a": ["echo", "yes"], "b": ["sh", "-c", f"echo $$ >{pid}; exec sleep 1000"]}
    with pytest.raises(KeyboardInterrupt):
        ask(calls, None, found)
    assert found == {"a": Reply(0, b"yes\n", b"", "")}
    assert not is_alive(int(pid.read_text()))


def test_without_ssh_it_names_the_package():
    with pytest.raises(ScopekeeperError, match="no-such-ssh is not installed; the package is"):
        ask({"a": ["no-such-ssh"]}, 1.0, {})


MARK = f"{ssh.MARK}\n".encode()
GOOD = b'{"version": 1, "lines": ["x"]}'


@pytest.mark.parametrize(
    ("reply", "status", "problem"),
    [
        (Reply(255, b"", b"ssh: connect to host a port 22: Connection refused\r\n"), FAILED,
         "ssh: connect to host a port 22: Connection refused"),
        (Reply(255, b"", b"banner\nHost key verification failed.\n"), FAILED,
         "ssh: Host key verification failed."),
        (Reply(255, b"", b""), FAILED, "ssh failed"),
        (Reply(1, b"this account is closed", b"closed\n"), FAILED, "it ran no command: closed"),
        (Reply(127, MARK, MARK + b"sh: 1: exec: scopekeeper: not found\n"), FAILED,
         "scopekeeper is not in the PATH of ssh's commands"),
        (Reply(2, MARK, MARK + b"scopekeeper: No such command 'ps'; see x\n"), 2,
         "No such command 'ps'; see x"),
        (Reply(3, MARK, MARK), 3, "its scopekeeper ended with status 3"),
        (Reply(0, MARK, MARK), FAILED, "the connection was lost"),
        (Reply(255, MARK, MARK + b"Connection to a closed by remote host.\n"), FAILED,
         "the connection was lost: Connection to a closed by remote host."),
        (Reply(255, MARK + GOOD, MARK), FAILED, "the connection was lost after its answer"),
        (Reply(0, MARK + GOOD[:-2], MARK), FAILED, "its answer is no JSON, or not all of it"),
        (Reply(0, MARK + b"[]", MARK), FAILED, "its answer is no JSON object"),
        (Reply(0, MARK + b'{"version": 2}', MARK), FAILED,
         "its answer has version 2, this scopekeeper reads 1: update the older"),
        (Reply(0, MARK + b'{"version": true}', MARK), FAILED,
         "its answer has version True, this scopekeeper reads 1: update the older"),
        (Reply(None, MARK, MARK, "no answer in time"), FAILED, "no answer in time"),
    ],
)  # fmt: skip
def test_a_host_without_an_answer_has_one_clause(reply, status, problem):
    found = read("a", reply)
    assert (found.status, found.problem) == (status, problem)


def test_what_a_shell_prints_before_is_no_part_of_the_answer():
    noise = b'Welcome! {"version": 7}\n'
    found = read("a", Reply(4, noise + MARK + GOOD, noise + MARK + b"scopekeeper: no run is x\n"))
    assert (found.status, found.problem, found.messages) == (4, "", ("no run is x",))
    assert found.document.texts("lines") == ["x"]


def test_what_it_prints_on_standard_error_is_bounded():
    found = read("a", Reply(0, MARK + GOOD, MARK + b"\n".join([b"x" * 1000] * 500)))
    assert len(found.messages) == 20
    assert {len(line) for line in found.messages} == {401}


def test_whether_something_may_have_happened_is_known():
    assert read("a", Reply(255, MARK, MARK)).may_have_acted
    assert read("a", Reply(None, b"", b"", "no answer in time")).may_have_acted
    assert read("a", Reply(255, b"", b"Timeout, server a not responding.\r\n")).may_have_acted
    assert read("a", Reply(255, b"", b"")).may_have_acted
    assert read("a", Reply(-9, b"", b"")).may_have_acted
    assert not read("a", Reply(255, b"", b"ssh: connect to host a: refused")).may_have_acted
    assert not read("a", Reply(255, b"", b"me@a: Permission denied (publickey).")).may_have_acted
    assert not read("a", Reply(1, b"", b"This account is not available.")).may_have_acted
    assert not read("a", Reply(2, MARK, MARK + b"usage\n")).may_have_acted


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a": NaN}', '{"a": Infinity}', '{"version": 1, "a": "\\ud800"}',
     '{"a": ' + "9" * 5000 + "}", "{", "", "null", "1", '{"version": "1"}', '{"version": 1.5}',
     "{}", '{"version": null}'],
)  # fmt: skip
def test_what_is_no_document_is_refused_in_one_line(text):
    with pytest.raises(BadAnswerError) as caught:
        parse(text.encode())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 100


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_refused(raw):
    with contextlib.suppress(BadAnswerError):
        assert parse(raw).count("version") == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
    ),
    max_leaves=5,
)


@given(VALUES)
def test_a_value_has_the_type_that_is_asked_for_or_is_refused(value):
    fields = Fields({"x": value})
    for look, kinds in (
        (fields.text, str), (fields.number, (float, int, type(None))), (fields.flag, bool),
        (fields.count, (int, type(None))), (fields.below, (Fields, type(None))),
        (fields.length, int),
    ):  # fmt: skip
        with contextlib.suppress(BadAnswerError):
            assert isinstance(look("x"), kinds)
    for look, kind in ((fields.each, Fields), (fields.texts, str), (fields.counts, int)):
        with contextlib.suppress(BadAnswerError):
            assert all(isinstance(each, kind) for each in look("x"))


@pytest.mark.parametrize(
    ("statuses", "failed", "status"),
    [
        ([0, 0], 1, 0), ([0, 4], 1, 0), ([4, 4], 1, 4), ([4, 125], 1, 1), ([0, 1, 6], 1, 1),
        ([6, 0], 1, 6), ([1, 5], 1, 5), ([2, 0], 1, 2), ([0, 77], 1, 1), ([0, 1], 2, 1),
        ([0, 125], 2, 2), ([1, 2], 2, 2),
    ],
)  # fmt: skip
def test_the_status_is_the_worst_and_nothing_matched_counts_if_it_is_so_everywhere(
    statuses, failed, status
):
    assert worst(statuses, failed) == status


def context_of(words):
    # click keeps what it makes of a context for the next one: this has to be what main() has
    top = click.Context(group, info_name="scopekeeper", **group.context_settings)
    command = group.get_command(top, words[0])
    return command.make_context(words[0], list(words[1:]), parent=top)


def sent_by(line, **plan):
    plan = Plan(read=None, print=None, **plan)
    return sent(context_of(line.split()), plan.kept, plan.more)


def test_options_are_sent_whole_and_what_is_about_this_terminal_is_not():
    line = "stop -H a -Hb -s it's -n=x --lifetime gateway --lifetime session --grace 5s -- -x y"
    assert sent_by(line) == [
        "stop", "--session=it's", "--name==x", "--lifetime=gateway", "--lifetime=session",
        "--grace=5s", "--json", "--", "-x", "y",
    ]  # fmt: skip
    line = "why -H a --all --json --no-trunc x"
    assert sent_by(line, kept=("no_trunc",), more=("--limit=5",)) == [
        "why", "--all", "--limit=5", "--json", "--", "x",
    ]  # fmt: skip
    assert sent_by("history -H a -n 5 --by lane") == ["history", "--limit=5", "--by=lane", "--json"]


@pytest.mark.parametrize("name", WITH_HOSTS)
def test_what_is_sent_is_a_valid_call_of_the_same_command(name):
    context = context_of([name, "-H", "a"])
    plan = call.importlib.import_module(
        f"scopekeeper.cli.on_hosts.{'text' if name in ('why', 'stop') else name}"
    ).plan(context.params)
    words = sent(context, plan.kept, plan.more)
    assert words[0] == name
    assert context_of(words).params["as_json"] is True


def test_what_a_page_and_the_live_view_send_are_valid_calls():
    context = context_of(["report", "-H", "a", "x.html"])
    plan = call.importlib.import_module("scopekeeper.cli.on_hosts.report").plan(context.params)
    sending = context_of(sent(context, plan.kept, plan.more))
    assert (sending.params["target"], sending.params["as_json"]) == (None, True)
    line = "top -H a -s x --members --fold --sort -memory --where state=orphan --delay 5s"
    words = sent(context_of(line.split()), ("where", "sort", "color", "members", "fold"))
    assert words == ["top", "--session=x", "--delay=5s", "--json"]
    assert context_of(words).params["as_json"] is True


def test_commands_that_change_something_are_not_given_up():
    for line, acts in (
        ("stop x -H a", True), ("stop x -H a --dry-run", False), ("reconcile -H a", True),
        ("reconcile -H a --dry-run", False), ("why -H a x", False), ("ls -H a", False),
    ):  # fmt: skip
        context = context_of(line.split())
        module = "text" if context.info_name in ("why", "stop") else context.info_name
        plan = call.importlib.import_module(f"scopekeeper.cli.on_hosts.{module}").plan
        assert plan(context.params).acts is acts, line
