"""``report -H``: one page of several hosts."""

import json
import re

import pytest

from scopekeeper.report.page import HEAD
from tests.browser.days import HOSTILE
from tests.unit.test_host_tables import call, hosts, subprocess_call  # noqa: F401  a fixture
from tests.unit.test_report_page import Reader

LIFE = {
    "session": "s", "lane": "main", "unit": "u.scope", "member": "git", "reason": "exited",
    "started": 1_700_000_000.0, "ended": 1_700_000_060.0, "user": "", "kind": "mcp", "seen": True,
    "status": "0", "evidence": "it ended", "memory_peak": 5, "cpu": 1.5, "command": "", "host": "",
}  # fmt: skip
RUNNING = {
    "session": "s", "lane": "main", "unit": "u.scope", "state": "orphan", "owner": "pid 7",
    "evidence": "process 7 has ended", "members": 1, "processes": 2, "age": 5.0, "memory": 5,
    "cpu": None, "user": "", "host": "",
}  # fmt: skip
OUTSIDE = {"session": "s", "lane": "main", "pid": 5, "program": "sleep", "evidence": "e",
           "user": "", "host": ""}  # fmt: skip


def made_of(*lives, **more):
    found = {"lives": [LIFE | each for each in lives], "running": [], "outside": [], "notes": []}
    return found | more


def page_of(tmp_path, line, status=0):
    done = call(f"report {line} {tmp_path}/x.html")
    assert done.exit_code == status, done.output
    return (tmp_path / "x.html").read_text(), done


def rows_of(text):
    found = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    return [[c if isinstance(c, str) else c[0] for c in row] for row in found["rows"]]


def test_hosts_are_a_column_a_filter_and_tracks_of_their_own(hosts, tmp_path):  # noqa: F811
    hosts.answer("a", made_of({}, running=[RUNNING], outside=[OUTSIDE], notes=["half"]))
    hosts.answer("b", made_of({"ended": 1_700_000_030.0}, {"ended": None, "reason": "running"}))
    hosts.down("c")
    text, done = page_of(tmp_path, "-H a -H b -H c", 1)
    assert done.stdout.startswith("wrote ")
    assert "2 ends, 1 scope that runs" in done.stdout
    assert done.stderr == "scopekeeper: c: ssh: connect to host c port 22: No route to host\n"
    assert [row[0] for row in rows_of(text)] == ["b", "a", "b"], "the last end first"
    assert rows_of(text)[0][1] == "running"
    tags = Reader(text).tags
    assert [x["data-host"] for tag, x in tags if tag == "button" and "data-host" in x] == [*"abc"]
    tracks = [x["data-host"] for tag, x in tags if x.get("class") == "track"]
    assert sorted(tracks) == ["a", "b"]
    names = [(x["data-of"], x["data-find"]) for tag, x in tags if "data-find" in x]
    assert sorted(names) == [("a", "s"), ("b", "s")]
    texts = "".join(Reader(text).texts)
    assert "What ran on a, b, c" in texts
    assert "c: no answer: ssh: connect to host c port 22: No route to host" in texts
    assert "a: half" in texts
    assert "HOSTSESSIONLANESTATEOWNER" in texts
    assert "a: s" in texts


def test_each_host_is_asked_for_the_same_time_and_not_for_a_file(hosts, tmp_path):  # noqa: F811
    hosts.answer("a", made_of())
    page_of(tmp_path, "--since 2026-01-31T10:00:00+00:00 -H a --commands")
    sent = hosts.calls[-1].partition("scopekeeper")[2]
    assert re.search(r" report --commands --since=@1769853600\.0+ --json$", sent), sent
    assert "x.html" not in sent


def test_a_page_of_before_stays_if_no_host_answers(hosts, tmp_path):  # noqa: F811
    hosts.down("c")
    (tmp_path / "x.html").write_text(f"{HEAD} of yesterday")
    text, done = page_of(tmp_path, "-H c", 1)
    assert text == f"{HEAD} of yesterday"
    assert done.stdout == ""
    (tmp_path / "x.html").write_text("mine")
    calls = len(hosts.calls)
    status, err = subprocess_call(f"report -H c {tmp_path}/x.html")
    assert (status, err.count("\n")) == (2, 1)
    assert "is no page of" in err
    assert (tmp_path / "x.html").read_text() == "mine"
    assert len(hosts.calls) == calls, "no host was asked"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_host_sends_is_text(hosts, tmp_path, hostile):  # noqa: F811
    hostile = hostile.encode(errors="replace").decode()
    texts = {key: hostile for key, value in LIFE.items() if isinstance(value, str)}
    hosts.answer("a", made_of({**texts, "reason": "exited"}, notes=[hostile]))
    plain = page_of(tmp_path, "-H a")[0]
    tags = [tag for tag, _ in Reader(plain).tags]
    hosts.answer("a", made_of({**dict.fromkeys(texts, "x"), "reason": "exited"}, notes=["x"]))
    assert [tag for tag, _ in Reader(page_of(tmp_path, "-H a")[0]).tags] == tags


@pytest.mark.parametrize(
    "change",
    [{"reason": "of a newer version"}, {"reason": "running"}, {"started": 1.0}, {"ended": 9e10},
     {"started": None}, {"cpu": None, "memory_peak": None}, {"cpu": -5.5}],
)  # fmt: skip
def test_strange_values_of_a_host_are_on_the_page(hosts, tmp_path, change):  # noqa: F811
    hosts.answer("a", made_of(change))
    text, _ = page_of(tmp_path, "-H a")
    (row,) = rows_of(text)
    if "reason" in change:
        assert "unknown" in row


@pytest.mark.parametrize(
    "change", [{"cpu": "much"}, {"session": 5}, {"seen": "yes"}, {"ended": 9e17}, {"started": -1}]
)
def test_a_value_of_another_type_is_a_line(hosts, tmp_path, change):  # noqa: F811
    hosts.answer("a", made_of(change))
    done = call(f"report -H a {tmp_path}/x.html")
    assert done.exit_code == 1
    assert done.stderr.startswith("scopekeeper: a: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


def test_json_is_each_hosts_document(hosts):  # noqa: F811
    hosts.answer("a", made_of({}))
    found = json.loads(call("report -H a --json").stdout)["hosts"]
    assert found[0]["answer"]["lives"][0]["member"] == "git"
    assert "--json and FILE exclude each other" in subprocess_call("report -H a --json x")[1]
