"""The stderr of members: who may ask for what, files that stay small, and their last lines."""

import fcntl
import os
import socket
import subprocess
import sys
import time

import pytest

from scopekeeper.cli import stderr_lines
from scopekeeper.kernel import punch_hole
from scopekeeper.launch.request import Request
from scopekeeper.policy import cached, compile_cache
from scopekeeper.policy.rules import parse
from scopekeeper.stderr import bounds, files, last_lines
from scopekeeper.systemd import journal_stream

LEAF = "m-time.5e0c21ab"
MIB = 1 << 20


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Give the folder of the files, in a state folder of the test's own."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    return tmp_path / "state/stderr/file"


def taken(path):
    return path.stat().st_blocks * 512


def aged(path, seconds=3600):
    """Make a file as old as one that no launch is about to lock."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def written(leaf, data):
    """Make the file of a member that has ended."""
    fd = files.create(leaf)
    os.write(fd, data)
    os.close(fd)


# Who may ask for what


def launch(rules=None, **options):
    return Request({"session": "s", "name": "time", **options}, {}, "true", rules).stderr


def rules_of(text):
    """Return the rules of a file as a launch reads them, from its compiled lines."""
    lines = ["", *compile_cache.lines(parse([("/etc/x.toml", text)]))]
    return lambda lane, server: cached._options(lines, lane, server)


def test_it_is_inherited_unless_the_call_or_a_rule_says_otherwise():
    assert launch() == "inherit"
    assert launch(stderr="file") == "file"
    rules = rules_of('[lanes.default]\nstderr = "journal"\n[servers.time]\nstderr = "file"\n')
    assert launch(rules) == "file"
    assert launch(rules, name="git") == "journal"
    assert launch(rules, stderr="inherit") == "inherit"
    # somebody looks at what a shell or a run writes
    assert launch(rules, kind="exec") == launch(rules, kind="pty") == "inherit"
    assert launch(rules, kind="exec", stderr="file") == "file"


@pytest.mark.parametrize("value", ["", "both", "/tmp/x"])
def test_another_place_is_refused_in_one_line(value):
    with pytest.raises(ValueError, match=r"unknown stderr .*use inherit, journal or file"):
        launch(stderr=value)


# Files


def test_a_file_is_its_users_alone_whatever_the_umask(folder):
    before = os.umask(0)
    try:
        written(LEAF, b"x")
        files.note_journal(LEAF)
    finally:
        os.umask(before)
    modes = [(folder.parents[at]).stat().st_mode & 0o777 for at in range(2)]
    assert [folder.stat().st_mode & 0o777, *modes] == [0o700, 0o700, 0o700]
    assert (folder / LEAF).stat().st_mode & 0o777 == 0o600
    assert (folder.parent / "journal" / LEAF).stat().st_mode & 0o777 == 0o600


def test_no_link_and_no_file_of_before_is_written_to(folder, tmp_path):
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "state").chmod(0o700)
    target = tmp_path / "target"
    target.write_text("mine")
    (folder / LEAF).symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic link|exists"):
        files.create(LEAF)
    (folder / LEAF).unlink()
    (folder / LEAF).write_text("of before")
    with pytest.raises(FileExistsError):
        files.create(LEAF)
    assert (target.read_text(), (folder / LEAF).read_text()) == ("mine", "of before")


def test_a_file_is_in_use_until_the_last_process_has_closed_it(folder):
    fd = files.create(LEAF)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stderr=fd) as child:
        os.close(fd)
        with open(folder / LEAF) as other:
            assert files.is_in_use(other.fileno())
            child.stdin.close()
            child.wait()
            assert not files.is_in_use(other.fileno())


FLOOD = """
import os, sys
for number in range(int(sys.argv[1])):
    os.write(2, b"line %7d " % number + b"x" * 1000 + b"\\n")
print("written", flush=True)
sys.stdin.readline()
os.write(2, b"the last line\\n")
"""


def test_the_beginning_of_a_file_is_freed_while_its_member_writes(folder):
    fd = files.create(LEAF)
    with subprocess.Popen(
        [sys.executable, "-c", FLOOD, "9000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=fd,
    ) as child:  # fmt: skip
        os.close(fd)
        assert child.stdout.readline() == b"written\n"
        path = folder / LEAF
        length = path.stat().st_size
        assert length > 8 * MIB
        assert taken(path) >= 8 * MIB
        bounds.shorten_all()
        assert path.stat().st_size == length
        assert taken(path) <= bounds.KEPT + 8192
        child.communicate(b"\n")
    lines = last_lines.tail(str(path)).splitlines()
    assert lines[-1] == b"the last line"
    assert lines[-2].startswith(b"line    8999 x")
    assert all(line.startswith(b"line ") for line in lines[:-1])  # the first one is whole
    whole = path.read_bytes().lstrip(b"\0")
    assert bounds.KEPT <= len(whole) < bounds.KEPT + 8192


def test_a_file_system_without_holes_keeps_nothing_rather_than_too_much(folder, monkeypatch):
    monkeypatch.setattr(punch_hole, "punch_hole", lambda *_: False)
    fd = files.create(LEAF)
    os.write(fd, b"x" * (3 * MIB))
    bounds.shorten_all()
    assert (folder / LEAF).stat().st_size == 0
    os.write(fd, b"later\n")
    os.close(fd)
    assert (folder / LEAF).read_bytes() == b"later\n"


def test_a_file_below_the_bound_stays_as_it_is(folder):
    written(LEAF, b"x" * (bounds.MOST - 4096))
    bounds.tidy()
    assert (folder / LEAF).read_bytes() == b"x" * (bounds.MOST - 4096)


def test_what_ended_long_ago_goes_and_what_runs_stays(folder, monkeypatch):
    monkeypatch.setattr(bounds, "ENDED_KEPT", 2)
    running = files.create("m-running.00000000")
    for number in range(4):
        written(f"m-ended.0000000{number}", b"x")
        aged(folder / f"m-ended.0000000{number}", 1000 - number)
    written("m-empty.00000000", b"")
    aged(folder / "m-empty.00000000")
    aged(folder / "m-running.00000000", bounds.AGE + 1)
    written("m-new.00000000", b"")
    bounds.tidy()
    assert sorted(os.listdir(folder)) == [
        "m-ended.00000002", "m-ended.00000003", "m-new.00000000", "m-running.00000000",
    ]  # fmt: skip
    os.close(running)
    aged(folder / "m-ended.00000003", bounds.AGE + 1)
    bounds.tidy()
    assert sorted(os.listdir(folder)) == ["m-ended.00000002", "m-new.00000000"]


def test_all_that_ended_take_no_more_than_their_share(folder, monkeypatch):
    monkeypatch.setattr(bounds, "ALL", 40_000)
    for number in range(4):
        written(f"m-ended.0000000{number}", b"x" * 16_384)
        aged(folder / f"m-ended.0000000{number}", 1000 - number)
    bounds.tidy()
    assert sorted(os.listdir(folder)) == ["m-ended.00000002", "m-ended.00000003"]


def test_notes_of_the_journal_go_by_age_and_number(folder, monkeypatch):
    monkeypatch.setattr(bounds, "NOTES_KEPT", 2)
    for number in range(4):
        files.note_journal(f"m-x.0000000{number}")
        aged(folder.parent / f"journal/m-x.0000000{number}", 1000 - number)
    aged(folder.parent / "journal/m-x.00000003", bounds.AGE + 1)
    bounds.tidy()
    assert sorted(os.listdir(folder.parent / "journal")) == ["m-x.00000001", "m-x.00000002"]


def test_strange_things_in_the_folder_are_left_alone(folder, tmp_path):
    written(LEAF, b"x")
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    target = tmp_path / "target"
    target.write_bytes(b"x" * (3 * MIB))
    (folder / "link").symlink_to(target)
    for name in ("fifo", "link"):
        os.utime(folder / name, (1, 1), follow_symlinks=False)
    bounds.tidy()
    assert taken(target) >= 3 * MIB
    assert sorted(os.listdir(folder)) == ["fifo", "folder", "link", LEAF]


def test_without_a_folder_there_is_nothing_to_do(folder):
    bounds.tidy()
    assert stderr_lines.stderr_of(LEAF) == []
    assert not folder.parent.exists()


# What is shown


def shown(data):
    written(LEAF, data)
    head, *lines = stderr_lines.stderr_of(LEAF)
    assert head.startswith("stderr (/")
    return lines


def test_the_last_lines_are_shown():
    assert shown(b"".join(b"%d\n" % n for n in range(100))) == [str(n) for n in range(90, 100)]


def test_what_controls_a_terminal_is_not_shown():
    data = b"\x1b[31mred\x1b[0m\x1b]0;title\x07\r\n\n  \nodd \xff\xe2\x80\xae\x00end\n"
    lines = shown(data + b"\x1b[2J\x9b5nno end")
    assert lines[0] == "red"
    assert all(line.isprintable() for line in lines)
    assert "no end" in lines[-1]


def test_a_long_line_is_cut():
    (line,) = shown(b"x" * 5000)
    assert line == "x" * 1000 + "…"


def test_a_member_that_wrote_nothing_shows_nothing():
    written(LEAF, b"")
    assert stderr_lines.stderr_of(LEAF) == []


def test_a_name_leads_to_no_other_folder(tmp_path):
    shown(b"x\n")
    assert stderr_lines.where(LEAF) == "file"
    (tmp_path / "state/history").write_text("secret")
    assert stderr_lines.stderr_of("../../history") == []


def test_a_huge_file_is_read_from_its_end_alone(folder):
    written(LEAF, b"")
    os.truncate(folder / LEAF, 1 << 40)
    with open(folder / LEAF, "ab") as file:
        file.write(b"the end\n")
    assert last_lines.tail(str(folder / LEAF)) == b"the end\n"


def test_of_the_journal_the_command_is_shown():
    files.note_journal("m-a\\x20b.5e0c21ab")
    (line,) = stderr_lines.stderr_of("m-a\\x20b.5e0c21ab", ask_journal=False)
    assert line == r"stderr: journalctl -t 'm-a\x20b.5e0c21ab'"


# The journal


@pytest.fixture
def listening(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(str(tmp_path / "stdout"))
        made.listen(0)
        yield made


def test_a_stream_begins_with_the_seven_lines_of_its_protocol(listening):
    fd = journal_stream.open_stream(LEAF, listening.getsockname())
    assert os.get_blocking(fd)
    os.write(fd, b"hello\n")
    os.close(fd)
    accepted, _ = listening.accept()
    with accepted, accepted.makefile("rb") as sent:
        assert sent.read() == f"{LEAF}\n\n6\n1\n0\n0\n0\nhello\n".encode()


def test_a_journal_that_hangs_is_not_waited_for(listening, monkeypatch):
    monkeypatch.setattr(journal_stream, "_PATIENCE", 0.05)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(listening.getsockname())  # all that its queue takes
        with pytest.raises(OSError, match=r"unavailable|timed out"):
            journal_stream.open_stream(LEAF, listening.getsockname())


REDIRECT = """
import os, sys
from types import SimpleNamespace
from scopekeeper.launch import stderr
from scopekeeper.systemd import journal_stream
journal_stream.open_stream.__defaults__ = (sys.argv[2],)
journal_stream.send_entry.__defaults__ = (sys.argv[2],)
request = SimpleNamespace(stderr=sys.argv[1], name="time", session="s", lane="main", run="")
back = stderr.redirect(SimpleNamespace(request=request, leaf="m-time.5e0c21ab", unit="u"))
os.write(2, b"of the command\\n")
if back is not None:
    back()
    os.write(2, b"of scopekeeper\\n")
"""


def redirected(how, path="/nonexistent/stdout", **more):
    return subprocess.run(
        [sys.executable, "-c", REDIRECT, how, str(path)], capture_output=True, text=True,
        env={**os.environ, **more},
    )  # fmt: skip


def test_without_a_journal_one_line_warns_and_stderr_stays(folder):
    done = redirected("journal")
    warning, written_there = done.stderr.splitlines()
    assert done.returncode == 0
    assert written_there == "of the command"
    assert warning == (
        "scopekeeper: warning: --stderr: the journal cannot have it: No such file or directory; "
        "stderr stays where it was"
    )
    assert not folder.parent.exists()


@pytest.mark.parametrize("state", ["relative", "/proc/nothing/here"])
def test_without_a_state_folder_too(state):
    done = redirected("file", SCOPEKEEPER_STATE=state)
    warning, written_there = done.stderr.splitlines()
    assert (done.returncode, written_there) == (0, "of the command")
    assert warning.startswith("scopekeeper: warning: --stderr: a file cannot have it: ")
    assert warning.endswith("; stderr stays where it was")


def test_what_scopekeeper_reports_later_goes_to_the_stderr_of_before(folder):
    done = redirected("file")
    assert done.stderr == "of scopekeeper\n"
    assert (folder / LEAF).read_text() == "of the command\n"


def test_a_closed_stderr_is_no_obstacle(folder):
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-c", REDIRECT, "file", "/"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (folder / LEAF).read_text().startswith("of the command\n")
    assert done.stderr == ""


def test_an_entry_has_fields_of_any_text(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "socket"))
        made.settimeout(5)
        journal_stream.send_entry({"MESSAGE": "a\nb"}, made.getsockname())
        assert made.recv(100) == b"MESSAGE\n\3\0\0\0\0\0\0\0a\nb\n"
    journal_stream.send_entry({"MESSAGE": "x"}, str(tmp_path / "socket"))  # nobody is there


def test_a_lock_that_is_held_is_not_waited_for(folder):
    written(LEAF, b"x")
    aged(folder / LEAF, bounds.AGE + 1)
    with open(folder / LEAF) as holder:
        fcntl.flock(holder, fcntl.LOCK_SH)
        bounds.tidy()
        assert (folder / LEAF).exists()
    bounds.tidy()
    assert not (folder / LEAF).exists()
