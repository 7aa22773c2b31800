"""What is published can be read by whoever reads it, is bounded, and never goes back."""

import fcntl
import json
import os
import re
import string
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from scopekeeper.errors import ConflictError, LimitError, ManagerError, ShortageError, UsageError
from scopekeeper.history import failed_launches
from scopekeeper.kernel import proc
from scopekeeper.metrics import cpu_totals, exposition, label_values, names, read
from scopekeeper.metrics.cpu_totals import Totals, advance
from scopekeeper.metrics.facts import Facts, Health, Session, from_json
from scopekeeper.metrics.label_values import LONGEST, OTHER
from scopekeeper.scope.model import Scope
from scopekeeper.scope.reason import Reason

ROOT = Path(__file__).parents[2]
NAME = st.text(
    st.characters(exclude_categories=["Cs"], include_characters=["\udc80", "\udced", "\udcff"]),
    max_size=200,
)
"""What a process can call a session: text, and bytes that are none as Python has them."""
NUMBER = st.integers(0, 2**50)
SESSION = st.builds(
    Session, NUMBER, st.none() | NUMBER, st.none() | st.floats(0, 1e9),
    st.dictionaries(st.sampled_from(["cpu", "io", "memory"]), st.floats(0, 1)),
)  # fmt: skip
STATES = st.sampled_from(["running", "orphan", "kept"])
FACTS = st.builds(
    Facts,
    user=NAME.map(label_values.of),
    scopes=st.dictionaries(
        st.tuples(NAME.map(label_values.of), st.just("mcp"), STATES), NUMBER, max_size=3
    ).map(lambda found: [(*key, n) for key, n in found.items()]),
    members=st.dictionaries(STATES, NUMBER),
    sessions=st.dictionaries(NAME.map(label_values.of), SESSION, max_size=5),
    escaped=NUMBER,
    unread=NUMBER,
    ends=st.none() | st.dictionaries(st.sampled_from([each.value for each in Reason]), NUMBER),
    failed=st.dictionaries(st.sampled_from(list(failed_launches.KINDS)), NUMBER),
    keeper_runs=st.booleans(),
)
HEALTH = Health("lab", True, False, 3, 2, 1, 4, {"info": 1, "warning": 2, "error": 3})


def samples(families):
    found = {}
    for family in families:
        for each in family.samples:
            key = (each.name, tuple(sorted(each.labels.items())))
            assert key not in found, "one series twice"
            found[key] = each.value
    return found


@given(st.lists(FACTS, min_size=1, max_size=2, unique_by=lambda each: each.user))
def test_both_formats_are_read_back_with_the_same_samples(facts):
    written = {form: exposition.write(facts, form, HEALTH).decode()
               for form in (exposition.OPENMETRICS, exposition.TEXT)}  # fmt: skip
    first = samples(of_openmetrics(written[exposition.OPENMETRICS]))
    second = samples(of_text(written[exposition.TEXT]))
    varying = {key for key in first if key[0].startswith("process_")}
    assert first.keys() == second.keys()
    assert {key: first[key] for key in first.keys() - varying} == (
        {key: second[key] for key in second.keys() - varying}
    )
    assert {name for name, _ in first} <= names.all_samples()
    for facts_of_one in facts:
        for value, session in facts_of_one.sessions.items():
            labels = (("session", value), ("user", facts_of_one.user))
            assert first["scopekeeper_session_processes", labels] == session.processes


@given(FACTS)
def test_facts_of_another_user_arrive_as_they_were(facts):
    assert from_json(json.loads(json.dumps(asdict(facts)))) == facts


@given(st.lists(NAME, unique=True, max_size=30))
def test_a_label_value_is_one_line_of_text_bounded_and_has_one_name(found):
    for name in found:
        value = label_values.of(name)
        assert len(value) <= LONGEST
        assert len(value.splitlines()) <= 1
        assert not set(value) & set(map(chr, range(32)))
        value.encode()
    long = {label_values.of("x" * 99 + name) for name in found if len(name) > 1}
    assert len(long) == len({"x" * 99 + name for name in found if len(name) > 1})


def test_few_values_have_their_own_series_and_none_has_that_of_the_rest():
    found = label_values.bounded(["a"] * 3 + ["b"] * 2 + ["c", OTHER] + [OTHER] * 9, 2)
    assert found == {"a": "a", "b": "b", "c": OTHER, OTHER: OTHER}


# By session


def scope(session, *pids, lane="main", kind="mcp", memory=None, cpu=None, unit=None):
    unit = unit or f"scopekeeper-{session}-{lane}.scope"
    return Scope(
        unit=unit, directory=f"/nowhere/{unit}", cgroup=f"/{unit}", uid=0, session=session,
        lane=lane, kind=kind, strays=pids, memory_bytes=memory, cpu_usec=cpu,
    )  # fmt: skip


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """A runtime directory of this test's own; returns where the CPU time is kept."""
    monkeypatch.setattr(cpu_totals, "address", lambda: str(tmp_path / "run/keeper"))
    return tmp_path / "run/metrics-cpu"


def test_the_sessions_with_the_most_memory_have_series_and_the_rest_is_summed(runtime):
    scopes = [scope(f"s{n}", n, memory=n * 10, cpu=n * 1_000_000) for n in range(1, 6)]
    scopes.append(scope("s5", 50, lane="cron", memory=7, cpu=500_000))
    found = read._by_session(scopes, 2, keep=False)
    assert found == {
        "s5": Session(2, 57, 5.5), "s4": Session(1, 40, 4.0), OTHER: Session(3, 60, 6.0)
    }  # fmt: skip
    assert read._by_session(scopes, 0, keep=False) == {OTHER: Session(6, 157, 15.5)}


def test_a_session_that_is_called_like_the_rest_is_in_it(runtime):
    scopes = [scope(OTHER, 1, memory=9, cpu=1_000_000), scope("a", 2, memory=1, cpu=0)]
    assert read._by_session(scopes, 50, keep=False) == {
        "a": Session(1, 1, 0.0), OTHER: Session(1, 9, 1.0)
    }  # fmt: skip


def test_two_names_that_look_the_same_are_one_series(runtime):
    scopes = [scope("a\x1b", 1, memory=1), scope("a\\x1b", 2, memory=2)]
    assert read._by_session(scopes, 9, keep=False)["a\\x1b"] == Session(2, 3, 0.0)


def test_lanes_are_counted_by_class_and_few(monkeypatch):
    monkeypatch.setattr(read, "_LANES", 2)
    scopes = [scope("s", 1, lane=f"cron:{n}") for n in range(3)]
    scopes += [scope("s", 1, lane="main"), scope("t", 1, lane="main", kind="weird")]
    scopes += [scope("s", 1, lane=f"x{n}") for n in range(4)]
    found = {key: n for *key, n in read._by_lane(scopes) for key in [tuple(key)]}
    assert found == {
        ("cron", "mcp", "running"): 3, ("main", "mcp", "running"): 1,
        ("main", OTHER, "running"): 1, (OTHER, "mcp", "running"): 4,
    }  # fmt: skip


def test_pressure_is_that_of_the_scope_that_waited_most(runtime, tmp_path):
    scopes = []
    for lane, share in (("a", "1.50"), ("b", "20.00")):
        each = scope("s", 1, lane=lane)
        directory = tmp_path / lane
        directory.mkdir()
        text = f"some avg10=0.00 avg60={share} avg300=0.00 total=1\nfull avg10=0 avg60=9 total=2\n"
        (directory / "memory.pressure").write_text(text)
        scopes.append(Scope(**{name: getattr(each, name) for name in each.__slots__}
                            | {"directory": str(directory)}))  # fmt: skip
    assert read._by_session(scopes, 9, keep=False)["s"].pressure == {"memory": 0.2}


# CPU time


LOOKS = st.lists(
    st.dictionaries(
        st.sampled_from("abcd"), st.tuples(st.sampled_from("xyz"), st.integers(0, 1000))
    ),
    max_size=8,
)


@given(LOOKS, st.sets(st.sampled_from("xyz")))
def test_the_counter_of_a_session_never_goes_back_while_it_lives(looks, shown):
    session_of = {}
    for look in looks:  # a scope belongs to one session
        for key, (session, usec) in look.items():
            look[key] = (session_of.setdefault(key, session), usec)
    totals, usec_of = Totals(), Counter()
    for look in looks:
        seen = {}
        for key, (session, usec) in look.items():
            usec_of[key] += usec  # the kernel's own counter
            seen[key] = (session, usec_of[key])
        before, totals = totals, advance(totals, seen, shown)
        living = {session for session, _ in seen.values()}
        for session in living & before.sessions.keys():
            assert totals.of(session) >= before.of(session)
        assert totals.of(OTHER) >= before.of(OTHER)
        assert totals.sessions.keys() == living


def test_a_scope_that_ends_takes_nothing_from_its_session(runtime):
    both = {"a": ("s", 100), "b": ("s", 1)}
    assert cpu_totals.update(both, {"s"}, keep=True).of("s") == 101
    assert cpu_totals.update({"a": ("s", 102)}, {"s"}, keep=True).of("s") == 103
    assert cpu_totals.update({"a": ("s", 103)}, {"s"}, keep=False).of("s") == 104
    # what only looks has not changed what is kept
    assert cpu_totals.update({"a": ("s", 104)}, {"s"}, keep=True).of("s") == 105
    assert runtime.stat().st_mode & 0o777 == 0o600


def kept(**other):
    known = {"boot": proc.boot_id(), "scopes": {}, "sessions": {}, "other": 0}
    return json.dumps(known | other).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[" * 100_000, b"\xff", kept(boot="another", scopes={"a": 3}),
        kept(scopes=[]), kept(scopes={"a": -1}), kept(sessions={"s": "x"}), kept(other=True),
    ],
)  # fmt: skip
def test_what_is_kept_and_cannot_be_used_is_begun_anew(runtime, content):
    runtime.parent.mkdir()
    runtime.write_bytes(content)
    assert cpu_totals.update({"a": ("s", 7)}, {"s"}, keep=True).of("s") == 7
    assert cpu_totals.update({"a": ("s", 9)}, {"s"}, keep=True).of("s") == 9


@pytest.mark.parametrize("kind", ["a FIFO", "a link", "a folder"])
def test_what_is_no_file_is_not_opened(runtime, kind, tmp_path):
    runtime.parent.mkdir()
    if kind == "a FIFO":
        os.mkfifo(runtime)
    elif kind == "a link":
        (tmp_path / "elsewhere").write_text("precious")
        runtime.symlink_to(tmp_path / "elsewhere")
    else:
        runtime.mkdir()
    assert cpu_totals.update({"a": ("s", 7)}, {"s"}, keep=True).of("s") == 7
    assert kind != "a link" or (tmp_path / "elsewhere").read_text() == "precious"


def test_who_keeps_the_lock_delays_nobody_for_long(runtime, monkeypatch):
    monkeypatch.setattr(cpu_totals, "_PATIENCE", 0.05)
    cpu_totals.update({"a": ("s", 7)}, {"s"}, keep=True)
    with runtime.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cpu_totals.update({"a": ("s", 9)}, {"s"}, keep=True).of("s") == 9
    assert json.loads(runtime.read_text())["scopes"] == {"a": 7}


# Failed launches


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UsageError("x"), "usage"), (ValueError("x"), "usage"), (ConflictError("x"), "conflict"),
        (LimitError("x"), "limit"), (ManagerError("x"), "manager"), (RuntimeError(), "other"),
        (LookupError("cgroup2"), "unavailable"), (PermissionError(), "unavailable"),
        (ShortageError("x"), "limit"),
    ],
)  # fmt: skip
def test_each_failure_is_counted_once_by_its_kind(error, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(failed_launches, "path", lambda: str(tmp_path / "failed"))
    nothing = dict.fromkeys(failed_launches.KINDS, 0)
    assert failed_launches.totals() == nothing
    failed_launches.count(failed_launches.kind_of(error))
    assert failed_launches.totals() == nothing | {kind: 1}


def test_a_file_that_is_full_is_begun_anew_and_a_strange_one_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "failed"
    monkeypatch.setattr(failed_launches, "path", lambda: str(path))
    path.write_bytes(b"u" * (failed_launches.MOST + 1))
    failed_launches.count("usage")
    assert not path.exists()
    path.symlink_to(tmp_path / "precious")
    failed_launches.count("usage")
    assert not (tmp_path / "precious").exists()
    path.unlink()
    os.mkfifo(path)
    failed_launches.count("usage")  # it does not wait for a reader
    with pytest.raises(OSError, match="FIFO"):
        failed_launches.totals()


# Names


def test_names_and_types_follow_the_conventions():
    for each in (*names.OF_USERS, *names.OF_KEEPER):
        assert set(each.name) <= set(string.ascii_lowercase + "_")
        assert each.name.startswith("scopekeeper_")
        assert not each.unit or each.name.endswith(f"_{each.unit}")
        assert not each.name.endswith(("_total", "_info", "_count", "_sum"))
        assert each.help.endswith(".")
        assert each.type == "info" or each.labels[0] == "user"


def rows(title):
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8").partition(f"{title}\n")[2]
    lines = text.partition("\n- **")[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]


def test_the_page_has_every_metric_with_its_type_and_labels():
    listed = {}
    for name, kind, labels, _ in rows("## The metrics"):
        for each in re.findall(r"`(\w+)`", name):
            listed[each] = (kind.strip(), tuple(re.findall(r"`(\w+)`", labels)))
    expected = {each.sample: (each.type, each.labels) for each in names.OF_USERS + names.OF_KEEPER}
    assert listed == expected | dict.fromkeys(names.OF_PROCESS, ("-", ()))


def test_the_page_has_every_kind_of_error():
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"- \*\*`error`\*\*(.*?)\n- ", text, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence)) == set(failed_launches.KINDS)


EXAMPLES = ROOT / "examples/prometheus"


def metrics_in(expression):
    """Return the names of metrics in a query: words that are no label, function or variable."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)|on \([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:scopekeeper|process|node|up)\w*", bare))


def expressions():
    """Return the queries of the examples: of rules, panels and variables."""
    from ruamel.yaml import YAML

    groups = YAML(typ="safe").load(EXAMPLES / "scopekeeper.rules.yml")["groups"]
    found = [rule["expr"] for group in groups for rule in group["rules"]]
    board = json.loads((EXAMPLES / "grafana-dashboard.json").read_text(encoding="utf-8"))
    found += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    variables = [each["query"] for each in board["templating"]["list"]]
    return found + [each["query"] for each in variables if isinstance(each, dict)]


def test_rules_and_dashboard_name_only_metrics_that_there_are():
    named = [metrics_in(each) for each in expressions()]
    assert all(named)
    others = {"up", "node_textfile_mtime_seconds"}
    assert set().union(*named) <= names.all_samples() | others


def test_every_metric_of_scopekeeper_is_in_the_dashboard_or_a_rule():
    named = set().union(*(metrics_in(each) for each in expressions()))
    unused = {each.sample for each in (*names.OF_USERS, *names.OF_KEEPER)} - named
    assert unused == {"scopekeeper_unread_cgroups", "scopekeeper_keeper_bus_connected"}


def test_the_labels_of_a_query_are_those_of_its_metric():
    known = {each.sample: {*each.labels, "instance", "job"}
             for each in (names.HOST_UP, *names.OF_USERS, *names.OF_KEEPER)}  # fmt: skip
    for expression in expressions():
        for name, inside in re.findall(r"(scopekeeper_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)[!=]", inside)) <= known[name], expression
        for reason in re.findall(r'reason="([^"]*)"', expression):
            assert Reason(reason)


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    board = json.loads((EXAMPLES / "grafana-dashboard.json").read_text(encoding="utf-8"))
    taken = Counter()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        taken.update((x, y) for x in range(at["x"], at["x"] + at["w"])
                     for y in range(at["y"], at["y"] + at["h"]))  # fmt: skip
    assert set(taken.values()) == {1}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


# The command


def metrics(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "scopekeeper", "metrics", *arguments], capture_output=True,
        text=True, cwd=ROOT, env=os.environ | environment, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--textfile", "/nonexistent/x.prom"], 1, "/nonexistent"),
        (["--textfile", "/x.txt"], 2, "give --textfile /x.txt.prom"),
        (["--textfile", "/x.prom", "--format", "openmetrics"], 2, "leave out --format"),
        (["--sessions", "-1"], 2, "--sessions"),
        (["--sessions", "x"], 2, "--sessions"),
        (["--format", "json"], 2, "--format"),
        (["--format", "text", "--json"], 2, "--json and --format exclude each other"),
        (["--textfile", "/x.prom", "--json"], 2, "--json and --textfile exclude each other"),
        (["-H", "a", "--textfile", "/x.prom", "--json"], 2, "--json and --textfile exclude"),
        (["-H", "a", "--textfile", "/x.prom", "--format", "openmetrics"], 2, "leave out --format"),
        (["surplus"], 2, "surplus"),
    ],
)
def test_wrong_usage_and_what_cannot_be_written_are_one_line(arguments, status, words):
    done = metrics(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
    assert words in done.stderr


def test_without_prometheus_client_it_says_what_to_install(tmp_path):
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('not here')")
    done = metrics(PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "python3-prometheus-client" in done.stderr


def test_only_what_publishes_imports_the_library():
    program = (
        "import sys; import scopekeeper.cli.ls, scopekeeper.cli.keeper, scopekeeper.cli.metrics, "
        "scopekeeper.keeper.main, scopekeeper.metrics.read; "
        "sys.exit('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_a_textfile_is_replaced_as_a_whole_and_others_may_read_it(tmp_path):
    path = tmp_path / "scopekeeper.prom"
    path.write_text("old")
    path.chmod(0o600)
    done = metrics("--textfile", str(path), SCOPEKEEPER_STATE=str(tmp_path / "state"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert path.stat().st_mode & 0o777 == 0o644
    assert samples(of_text(path.read_text()))
    assert "# EOF" not in path.read_text()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_a_killed_writer_of_a_textfile_has_left_goes_with_the_next(tmp_path):
    (tmp_path / ".scopekeeper-0123456789ab.tmp").write_text("half")
    (tmp_path / "other.prom").write_text("")
    path = tmp_path / "scopekeeper.prom"
    done = metrics("--textfile", str(path), SCOPEKEEPER_STATE=str(tmp_path / "state"))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == [
        "other.prom", "scopekeeper.prom",
    ]  # fmt: skip


def test_a_history_that_cannot_be_read_is_a_fact_and_no_error(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "history.db").write_bytes(b"no database" * 1000)
    done = metrics(SCOPEKEEPER_STATE=str(state))
    found = {name: value for (name, _), value in samples(of_openmetrics(done.stdout)).items()}
    assert done.returncode == 0
    assert found["scopekeeper_history_readable"] == 0
    assert "scopekeeper_ends_total" not in found
