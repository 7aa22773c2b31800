"""``metrics -H``: one text of all hosts that a Prometheus can read, whatever the hosts send."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from scopekeeper.cli.metrics import _document
from scopekeeper.cli.on_hosts.metrics import _read
from scopekeeper.hosts.answer import BadAnswerError, Fields, parse
from scopekeeper.metrics import exposition
from scopekeeper.metrics.facts import HostFacts
from tests.unit.test_host_tables import call, hosts  # noqa: F401  a fixture
from tests.unit.test_metrics import FACTS, samples

USER = {
    "user": "lab", "scopes": [{"lane": "main", "kind": "mcp", "state": "running", "count": 2}],
    "members": {"running": 3}, "escaped": 0, "unread": 0, "ends": {"exited": 5}, "failed": {},
    "sessions": {"s": {"processes": 4, "memory_bytes": None, "cpu_seconds": 1.5,
                       "pressure": {"cpu": 0.5}}},
    "keeper_runs": True,
}  # fmt: skip
USERS = st.lists(FACTS, max_size=2, unique_by=lambda each: each.user)
MANY = st.dictionaries(st.sampled_from(["a", "root@b", "::1"]), st.none() | USERS, min_size=1)


def facts(*changes):
    return {"scopekeeper": "0.1.0", "users": [USER | each for each in changes]}


@given(USERS)
def test_facts_of_another_host_arrive_as_they_were(users):
    sent = json.dumps({"version": 1, "scopekeeper": "1", "users": [_document(x) for x in users]})
    got = _read(parse(sent.encode()), 50)
    assert got == HostFacts("1", users)


@given(MANY)
def test_both_formats_have_every_sample_of_every_host_once_with_its_host(found):
    found = {host: x if x is None else HostFacts("1", x) for host, x in found.items()}
    expected = {("scopekeeper_host_up", (("host", host),)): float(x is not None)
                for host, x in found.items()}  # fmt: skip
    for host, each in found.items():
        for metric, of_it in () if each is None else exposition._samples("1", each.users):
            for values, value in of_it:
                labels = (*zip(metric.labels, values, strict=True), ("host", host))
                expected[metric.sample, tuple(sorted(labels))] = value
    for form, parse_text in (("openmetrics", of_openmetrics), ("text", of_text)):
        text = exposition.write_hosts(found, form).decode()
        assert samples(parse_text(text)) == expected
        heads = [line.split()[:3] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(heads) == len(set(map(tuple, heads))), "a family twice is invalid"


def test_a_host_that_does_not_answer_is_a_sample_and_a_line(hosts, tmp_path):  # noqa: F811
    hosts.answer("a", facts({}))
    hosts.answer("b", facts({}, {"user": "ci", "ends": None}))
    hosts.down("c")
    done = call("metrics -H a -H b -H c --format text --sessions 7")
    assert done.stderr == "scopekeeper: c: ssh: connect to host c port 22: No route to host\n"
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert [x for x in lines if x.startswith("scopekeeper_host_up")] == [
        'scopekeeper_host_up{host="a"} 1.0', 'scopekeeper_host_up{host="b"} 1.0',
        'scopekeeper_host_up{host="c"} 0.0',
    ]  # fmt: skip
    assert 'scopekeeper_history_readable{host="b",user="ci"} 0.0' in lines
    assert 'scopekeeper_build_info{host="a",version="0.1.0"} 1.0' in lines
    assert not any('host="c"' in x and "host_up" not in x for x in lines)
    sent = hosts.calls[-1].partition("scopekeeper")[2]
    assert "--sessions=7 --json" in sent
    assert "--format" not in sent

    file = tmp_path / "all.prom"
    done = call(f"metrics -H a -H c --textfile {file}")
    assert (done.exit_code, done.stdout) == (1, "")
    assert 'scopekeeper_host_up{host="c"} 0.0' in file.read_text()
    assert "textfile" not in hosts.calls[-1]
    assert call("metrics -H a -H b").exit_code == 0


def test_hosts_that_are_all_down_are_printed_too(hosts):  # noqa: F811
    hosts.down("c")
    done = call("metrics -H c --format text")
    assert done.exit_code == 1
    assert done.stdout.endswith('scopekeeper_host_up{host="c"} 0.0\n')


@pytest.mark.parametrize(
    "change",
    [
        {"user": "lab"},
        {"user": "x", "sessions": {str(each): {} for each in range(9)}},
        {"user": "x", "sessions": {"s": 5}},
        {"user": "x", "members": {"running": "many"}},
        {"user": "x", "scopes": [5]},
        {"user": "x", "failed": {str(each): 1 for each in range(6000)}},
    ],
)
def test_an_answer_that_would_make_an_invalid_or_endless_text_is_refused(change):
    with pytest.raises(BadAnswerError):
        _read(Fields(facts({}, change)), 7)
