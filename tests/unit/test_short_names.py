"""The short form of long names in the journal, which is that of the tables."""

import logging
import os
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scopekeeper.cli.table import cut_middle, with_short_ids
from scopekeeper.history import journal as ends_journal
from scopekeeper.keeper.log import entry_of
from scopekeeper.scope import names
from scopekeeper.scope.reason import Reason
from scopekeeper.short_names import MOST, short, shortened
from scopekeeper.systemd import journal, journal_lines
from tests.unit.ends import an_end
from tests.unit.test_journal import fields_of

UUID = "7f3a9c21-1234-4abc-8def-0123456789ab"
LONG = f"agent:main:subagent:{UUID}:and:a:long:tail:of:a:session:key"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("agent:main:main", "agent:main:main"),
        ("x" * MOST, "x" * MOST),
        (f"agent:main:{UUID}", "agent:main:7f3a9c21"),
        (f"{UUID}:{UUID}", "7f3a9c21:7f3a9c21"),
        (names.unit_name(f"agent:{UUID}", "main"), "scopekeeper-agent:7f3a9c21-main.scope"),
    ],
)
def test_it_is_short(name, expected):
    assert short(name) == expected


def test_what_only_looks_like_a_uuid_is_cut():
    assert short(f"x{UUID}-{'y' * 9}") == "x7f3a9c21-1234-4abc-…3456789ab-yyyyyyyyy"


WORDS = st.lists(st.sampled_from(["agent", "main", UUID, UUID.upper(), "x" * 30, "_", "7f3a9c21"]))


NAMES = WORDS.flatmap(lambda words: st.sampled_from([":".join(words), "-".join(words)]))


@given(NAMES | st.text(st.characters(codec="ascii"), max_size=120))
@example("a" * 8 + "-")
def test_it_is_the_form_of_the_tables(text):
    if len(text) > MOST and "\\x2d" not in text:
        assert short(text) == cut_middle(with_short_ids(text), MOST)


def test_only_the_given_names_are_short_in_a_text():
    text = f"time of {LONG}: see https://example.org/{'x' * 60} of {LONG}"
    expected = text.replace(LONG, short(LONG))
    assert shortened(text, [LONG, "time", ""]) == expected


def test_an_end_has_its_names_in_full_in_its_fields():
    unit = names.unit_name(LONG, "main")
    end = an_end(session=LONG, unit=unit, name="n" * 60, evidence=f"systemd ended it with {unit}")
    entry = ends_journal.entry(end)
    assert LONG not in entry["MESSAGE"]
    assert unit not in entry["MESSAGE"]
    assert "n" * 60 not in entry["MESSAGE"]
    assert all(len(word) <= MOST for word in entry["MESSAGE"].split(" "))
    assert entry["SCOPEKEEPER_SESSION"] == LONG
    assert entry["SCOPEKEEPER_SCOPE"] == unit
    assert entry["SCOPEKEEPER_TEXT"].startswith(f"{'n' * 60} of {LONG} ended: ")
    assert unit in entry["SCOPEKEEPER_TEXT"]
    assert ends_journal.entry(an_end())["SCOPEKEEPER_TEXT"] == ""


def test_the_other_member_of_an_end_is_short_too():
    leaf = names.leaf_name("n" * 60, "00000007")
    evidence = f"as {'n' * 60} ({leaf} in {LONG}, lane main)"
    message = ends_journal.entry(an_end(reason=Reason.CONTINUED, evidence=evidence))["MESSAGE"]
    assert " went on as nnn" in message
    assert message.endswith(f"{'n' * 10}.00000007 in {short(LONG)}, lane main)")


def test_a_message_of_the_keeper_has_fields_for_its_long_names():
    text = f"4f1d09c7 (bash of {LONG}) loses its terminal"
    known = {"session": LONG, "run": "4f1d09c7", "member": "bash", "scope": "", "lane": "main"}
    assert entry_of(text, known, logging.WARNING) == {
        "MESSAGE": text.replace(LONG, short(LONG)),
        "SCOPEKEEPER_TEXT": text,
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "scopekeeper",
        "SCOPEKEEPER_SESSION": LONG,
        "SCOPEKEEPER_LANE": "main",
        "SCOPEKEEPER_RUN": "4f1d09c7",
        "SCOPEKEEPER_SCOPE": "",
        "SCOPEKEEPER_MEMBER": "bash",
    }
    assert entry_of(text.replace(LONG, "x"), {"session": "x"}, logging.WARNING) is None


def test_a_directory_at_its_beginning_is_short():
    unit = names.unit_name(LONG, "main")
    directory = f"/sys/fs/cgroup/user.slice/scopekeeper.slice/{unit}"
    entry = entry_of(f"{directory}: Permission denied", {}, logging.ERROR)
    assert entry["MESSAGE"] == f"{short(unit)}: Permission denied"
    assert (entry["SCOPEKEEPER_SCOPE"], entry["SCOPEKEEPER_SESSION"]) == (unit, LONG)
    assert entry["SCOPEKEEPER_TEXT"] == f"{directory}: Permission denied"
    command = f"it is left alone; end it: systemctl --user stop '{unit}'"
    assert entry_of(command, {}, logging.ERROR) is None, "a command to copy stays as it is"


def test_only_stderr_at_the_journal_is_the_journal(tmp_path, monkeypatch):
    with open(tmp_path / "log", "w") as file:
        assert not journal.is_at(file.fileno())
        seen = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{seen.st_dev}:{seen.st_ino}")
        assert journal.is_at(file.fileno())
    assert not journal.is_at(9999)


def test_a_journal_that_is_missing_is_reported_to_the_caller(tmp_path):
    path = str(tmp_path / "socket")
    assert not journal.send([{"MESSAGE": "x"}], path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        assert journal.send([{"MESSAGE": "x"}], path)
        assert fields_of(server.recv(100)) == {"MESSAGE": b"x"}


def test_a_report_has_the_whole_text():
    line = (
        b'{"__REALTIME_TIMESTAMP": "1", "MESSAGE": "a of b\xe2\x80\xa6c", "PRIORITY": "4", '
        b'"SCOPEKEEPER_TEXT": "a of bbbc", "SCOPEKEEPER_SESSION": "bbbc"}'
    )
    found = journal_lines.parsed(line)
    assert (found.message, found.fields) == ("a of bbbc", {"session": "bbbc"})
