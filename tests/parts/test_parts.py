"""Parts are run in their order and as far as they fit; the table is right however they end."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import selecting, shares
from tests.lab import spec, suites

from . import catalogue, results, running, table
from .catalogue import CHECKOUT, HERE, PARTS, PYTEST, SYSTEMD, Part
from .cli import main, parser

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


def part(name: str, *argv: tuple[str, ...], **how: object) -> Part:
    how.setdefault("is_pytest", False)
    return Part(name, "here", "a test's", 1, argv, **how)  # type: ignore[arg-type]


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


class Never:
    asked = False


def run(
    tmp_path: Path, *parts: Part, rest: tuple[Part, ...] = (), **how: object
) -> list[results.Result]:
    return running.run(parts, rest, tmp_path / "results", Never(), **how)  # type: ignore[arg-type]


# What there is


def specs() -> dict[str, spec.Spec]:
    """Every machine of every part, by the part and the machine's title."""
    found = {}
    for each in PARTS:
        for words in each.argv:
            for at, word in enumerate(words):
                if word == "--lab":
                    asked = spec.parse(words[at + 1].replace(":" + str(ROOT / "dist"), ":/"), "")
                    found[f"{each.name} {asked.title}"] = asked
    return found


def test_each_part_has_a_name_of_its_own_and_those_of_make_test_are_the_first() -> None:
    assert len(set(catalogue.names())) == len(PARTS)
    firsts = [each.first for each in PARTS]
    assert firsts == sorted(firsts, reverse=True)


def test_the_machines_are_some_that_the_lab_has_and_every_systemd_of_it_is_among_them() -> None:
    asked = specs()
    for suite in suites.SUITES:
        kinds = {each.kind for each in asked.values() if each.suite == suite.name}
        wanted = {"nspawn"} if suite.packages else {"nspawn", "vm"}
        if suite.name == "trixie-oomd":
            wanted = {"vm"}  # systemd-oomd needs the memory controller
        assert kinds == wanted


@pytest.mark.parametrize(
    ("suite", "user"),
    [("trixie", "user"), ("trixie", "root"), ("bookworm", "user"), ("bookworm", "root")],
)
@pytest.mark.parametrize("often", [(), ("core",), ("core", "both")])
@pytest.mark.parametrize("long", [False, True])
def test_a_test_on_systemd_is_run_once_in_each_container_by_all_parts_together(
    suite: str, user: str, often: tuple[str, ...], long: bool
) -> None:
    marks = {"systemd", *often, *(["long"] if long else [])}
    runs = []
    for name, asked in specs().items():
        part_name = name.partition(" ")[0]
        if (asked.suite, asked.kind, asked.names) != (suite, "nspawn", (user,)):
            continue
        if (
            part_name == "openclaw"
            or "tests/unit" in asked.args
            or part_name.startswith("openclaw")
        ):
            continue
        expression = asked.args[asked.args.index("-m") + 1]
        if _matches(expression, marks) and "2/2" not in asked.args:
            runs.append(part_name)
    assert len(runs) == 1, runs
    if not long and ({"both"} if user == "root" else {"core"}) <= marks:
        assert catalogue.named(runs)[0].first


def _matches(expression: str, marks: set[str]) -> bool:
    words = set(expression.replace("(", " ").replace(")", " ").split())
    values = {word: word in marks for word in words - {"and", "or", "not"}}
    return bool(eval(expression, {"__builtins__": {}}, values))


def test_what_stands_in_the_shares_is_there() -> None:
    cases = {}
    for share in shares.MARKS.values():
        for path, named in share.items():
            assert (TESTS / path).is_file(), path
            for name in named:
                function, _, case = name.partition("[")
                assert f"def {function}(" in (TESTS / path).read_text(), (path, name)
                if case:
                    cases[f"tests/{path}::{name}"] = path
    argv = [*catalogue.PYTEST, "--collect-only", "-m", "systemd", *cases]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_run_as_both_users_is_run_on_both_debians() -> None:
    for path, named in shares.BOTH.items():
        core = shares.CORE[path]
        assert core == shares.ALL or (named and set(named) <= set(core)), path


def test_the_files_that_parts_name_are_there() -> None:
    for asked in specs().values():
        for word in asked.args:
            assert not word.startswith("tests/") or (ROOT / word).exists(), word


def test_shards_are_all_of_it_and_share_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_many.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_x(n): pass\n"
    )
    argv = [*catalogue.PYTEST, "-c", "/dev/null", "--rootdir", str(tmp_path),
            "-p", "tests.conftest", "--collect-only", str(tmp_path)]  # fmt: skip

    def names(*more: str) -> list[str]:
        done = subprocess.run([*argv, *more], cwd=ROOT, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if "::" in line]

    first, second = names("--shard", "1/2"), names("--shard", "2/2")
    assert first
    assert second
    assert sorted(first + second) == sorted(names())


# How they are run


def test_each_is_run_to_its_end_and_told_in_the_order_of_the_list(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        part("slow", python("import time; time.sleep(1); print('done')")),
        part("wrong", python("raise SystemExit(3)"), python("print('not run')")),
        part("quick", python("pass"), counts=False),
    )
    assert [each.part.name for each in ran] == ["slow", "wrong", "quick"]
    assert [each.why for each in ran] == [None, "ended with status 3", None]
    assert ran[0].output.read_text() == "done\n"
    assert ran[1].output.read_text() == ""


def test_no_more_are_run_at_a_time_than_there_is_room_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = (
        f"import time; f = open({str(log)!r}, 'a'); print('b', file=f, flush=True);"
        "time.sleep(0.3); print('e', file=f, flush=True)"
    )
    run(tmp_path, *(part(f"p{n}", python(text), weight=2) for n in range(3)), capacity=3)
    assert log.read_text().split() == ["b", "e"] * 3


def test_a_part_that_is_too_big_for_the_machine_is_run_alone(tmp_path: Path) -> None:
    (ran,) = run(tmp_path, part("big", python("pass"), weight=9), capacity=1)
    assert ran.why is None


def test_of_the_rest_as_much_is_run_as_fits_and_in_its_order(tmp_path: Path) -> None:
    now = [0.0]
    rest = tuple(
        Part(f"r{n}", "here", "", minutes, (python("pass"),), is_pytest=False)
        for n, minutes in enumerate([5, 20, 1])
    )
    budget = running.Budget(600, lambda: now[0])
    ran = run(tmp_path, part("first", python("pass")), rest=rest, budget=budget)
    assert [each.part.name for each in ran] == ["first", "r0"]
    ran = run(tmp_path, part("first", python("pass")), rest=rest,
              budget=running.Budget(6000, lambda: now[0]))  # fmt: skip
    assert [each.part.name for each in ran] == ["first", "r0", "r1", "r2"]
    (only,) = run(tmp_path, part("first", python("pass")), rest=rest,
                  budget=running.Budget(-1, lambda: now[0]))  # fmt: skip
    assert only.part.name == "first"


START = """
import signal, sys
from tests.parts import catalogue, cli
text = "import signal; print(*(signal.getsignal(n) for n in (1, 2, 3)))"
argv = ((sys.executable, "-c", text),)
catalogue.PARTS = (catalogue.Part("x", "here", "", 1, argv, True, 1, False),)
cli.RESULTS = __import__("pathlib").Path(sys.argv[1])
sys.exit(cli.main(["test"]))
"""


def test_what_was_started_with_signals_ignored_starts_its_parts_as_usual(tmp_path: Path) -> None:
    ignored = "import os, signal, sys\nfor n in (1, 2, 3): signal.signal(n, signal.SIG_IGN)\n"
    ignored += "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])"
    argv = [sys.executable, "-c", ignored, START, str(tmp_path / "results")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = (tmp_path / "results/x.txt").read_text()
    assert "SIG_IGN" not in told
    assert "default_int_handler" in told


def test_who_is_asked_to_end_ends_its_parts_and_says_what_was_run(tmp_path: Path) -> None:
    text = "import time; print('up', flush=True); time.sleep(1000)"
    start = START.replace('text = "import', f"text = {text!r} #").replace('"x"', '"long"')
    process = subprocess.Popen(
        [sys.executable, "-c", start, tmp_path / "results"], cwd=ROOT, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    output = tmp_path / "results/long.txt"
    while not (output.exists() and "up" in output.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=170)
    assert process.returncode == 130
    assert "FAILED: ended with" in told
    assert "1 error" in told.splitlines()[-1]


# How their tests are counted

INNER = """
import os, pytest

def test_passes(): pass
def test_skips(): pytest.skip("not here")
@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""
FAILS = """
@pytest.fixture
def broken(): yield; raise RuntimeError
def test_fails(): assert False
def test_passes_and_errs(broken): pass
"""
DIES = "def test_dies(): os._exit(7)\n"


def pytest_part(tmp_path: Path, text: str, *more: str) -> Part:
    (tmp_path / "inner").mkdir(exist_ok=True)
    (tmp_path / "inner/test_inner.py").write_text(text)
    argv = (*catalogue.PYTEST, "-c", "/dev/null", "--rootdir", str(tmp_path), *more)
    return part("p", (*argv, str(tmp_path / "inner")), is_pytest=True)


def test_what_passed_failed_and_was_skipped_is_counted_once_each(tmp_path: Path) -> None:
    (ran,) = run(tmp_path, pytest_part(tmp_path, INNER))
    assert (ran.why, ran.tally.passed, ran.tally.failed) == (None, 1, 0)
    assert ran.tally.skipped == {"not here": 1, "known to fail: known": 1}
    (ran,) = run(tmp_path, pytest_part(tmp_path, INNER + FAILS))
    assert (ran.why, ran.tally.passed, ran.tally.failed) == ("2 failed", 1, 2)


def test_a_pytest_that_died_has_failed_and_what_it_had_done_is_counted(tmp_path: Path) -> None:
    (ran,) = run(tmp_path, pytest_part(tmp_path, INNER + DIES))
    assert (ran.why, ran.tally.passed) == ("pytest ended with status 7", 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "pytest ended with status 5"),
        ("def test_x(): pass", "pytest ended with status 5"),
        ("import pytest\ndef test_x(): pytest.skip('no')", "NO TEST RAN"),
        ("import nothing_of_the_kind", "pytest ended with status 2"),
    ],
)
def test_a_part_that_ran_no_test_has_failed(tmp_path: Path, text: str, why: str) -> None:
    more = ("-k", "nothing") if text.startswith("def") else ()
    (ran,) = run(tmp_path, pytest_part(tmp_path, text, *more))
    assert ran.why == why


def told(tmp_path: Path, status: int, *events: dict[str, object], over: bool = True) -> str | None:
    lines = [*events, *([{"exit": status}] if over else [])]
    path = tmp_path / "told.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut')
    seen = part("p", ("true",), is_pytest=True)
    return results.Result(seen, status, 1, results.read(path), path).why


def event(name: str, outcome: str, why: str = "") -> dict[str, object]:
    return {"id": name, "when": "call", "outcome": outcome, "why": why}


def test_a_machine_that_died_is_a_failure_whatever_had_passed_in_it(tmp_path: Path) -> None:
    passed = event("trixie:nspawn:root/tests/test_x.py::test_y", "passed")
    died = event("lab[trixie:nspawn]", "failed", "no verdict: the machine ended\nmore")
    assert told(tmp_path, 1, passed, died) == "lab[trixie:nspawn]: no verdict: the machine ended"
    assert told(tmp_path, 0, passed, event("lab[trixie:nspawn]", "passed")) is None
    assert told(tmp_path, 0, event("lab[trixie:nspawn]", "passed")) == "NO TEST RAN"
    assert told(tmp_path, -9, passed) == "pytest ended with signal 9"
    assert told(tmp_path, 0, passed, over=False) == "pytest did not come to its end"
    assert told(tmp_path, 1, passed) == "failed without a test that has"


def test_of_a_test_that_was_told_of_twice_the_worst_counts(tmp_path: Path) -> None:
    twice = [event("a", "failed"), event("a", "passed"), event("b", "skipped", "why")]
    assert told(tmp_path, 1, *twice) == "1 failed"


def test_what_cannot_be_had_is_no_failure_and_no_pass_and_is_said(tmp_path: Path) -> None:
    absent = event("lab[openclaw]", "skipped", "no registry")
    assert told(tmp_path, 0, absent) is None
    path = tmp_path / "told.jsonl"
    seen = results.Result(part("p", ("true",), is_pytest=True), 0, 1, results.read(path), path)
    assert "NOT RUN: no registry" in "\n".join(table.lines([seen]))


def test_the_suites_of_vagrant_are_counted_by_what_they_say(tmp_path: Path) -> None:
    said = "suites: passed: user: 5 passed, 1 skipped; root: 7 passed, 1 failed (output in x)"
    (ran,) = run(tmp_path, part("v", ("echo", f"noise\n{said}\nmore")))
    assert (ran.tally.passed, ran.tally.failed, sum(ran.tally.skipped.values())) == (12, 1, 1)
    assert ran.why == "1 failed"


# What is printed


def seen(name: str, tally: results.Tally, status: int = 0, **how: object) -> results.Result:
    how.setdefault("is_pytest", True)
    return results.Result(part(name, ("true",), **how), status, 90, tally, Path("o"))


def test_a_row_for_each_part_and_the_reasons_below() -> None:
    tally = results.Tally(passed=12, failed=0)
    tally.skipped.update({"not here": 3, "not there": 1})
    rows = table.lines(
        [
            seen("good", tally),
            seen("bad", results.Tally(passed=1, failed=2), 1),
            seen("none", results.Tally()),
            seen("lint", results.Tally(), 1, is_pytest=False, counts=False),
        ]
    )
    assert [row.split() for row in rows[1:5]] == [
        ["good", "here", "12", "0", "4", "1.5"],
        ["bad", "here", "1", "2", "0", "1.5", "FAILED:", "2", "failed"],
        ["none", "here", "0", "0", "0", "1.5", "FAILED:", "NO", "TEST", "RAN"],
        ["lint", "here", "1.5", "FAILED:", "ended", "with", "status", "1"],
    ]
    assert rows[-2:] == ["    3 not here (good 3)", "    1 not there (good 1)"]


def test_the_last_line_is_what_pytest_writes() -> None:
    good = seen("good", results.Tally(passed=12))
    good.tally.skipped["x"] = 2
    assert table.summary([good], 3.5) == " 12 passed, 2 skipped in 3.50s ".center(80, "=")
    bad = seen("bad", results.Tally(failed=2), 1)
    line = table.summary([good, bad, seen("none", results.Tally())], 3725.25)
    assert line.strip("= ") == "2 failed, 12 passed, 2 skipped, 1 error in 3725.25s (1:02:05)"


def test_what_was_not_run_is_said_with_its_command() -> None:
    vm = catalogue.named(["trixie-vm"])
    assert "make test PARTS=trixie-vm " in "\n".join(table.left_out(vm, "not asked for"))
    assert table.left_out([], "") == []


def test_a_part_that_there_is_not_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["test", "nothing"]) == 2
    told = capsys.readouterr().out
    assert "no such part: nothing" in told
    assert "trixie-root" in told


def dry(*words: str) -> str:
    argv = ["make", "--dry-run", "-C", str(ROOT), *words]
    alone = {"PATH": os.environ["PATH"]}  # without what a make around this was told
    return subprocess.run(argv, env=alone, capture_output=True, text=True, check=True).stdout


def test_make_hands_on_what_it_was_told() -> None:
    def options(*words: str) -> list[str]:
        (line,) = [each for each in dry(*words).splitlines() if "-m tests.parts" in each]
        return shlex.split(line.partition("tests.parts")[2])

    asked = parser().parse_args(options("test", "WITHIN=45", "SINCE=12"))
    assert (asked.which, asked.within, asked.since, asked.parts) == ("test", 45, 12, [])
    asked = parser().parse_args(options("test", "PARTS=lint types", "JOBS=2"))
    assert (asked.parts, asked.jobs, asked.within) == (["lint", "types"], 2, None)
    assert parser().parse_args(options("test-all")).which == "all"
    assert "WITHIN=45" in (ROOT / ".ci/run").read_text()


def test_npm_is_installed_only_where_something_of_it_is_asked_for() -> None:
    for words, wanted in (
        (("test",), False),
        (("test", "PARTS=lint"), False),
        (("test", "PARTS=openclaw"), True),
        (("test", "WITHIN=45"), True),
        (("test-all",), True),
        (("test-openclaw",), True),
        (("test", "PARTS=clients-claude"), True),
        (("test-clients",), True),
    ):
        assert ("OPENCLAW=''" not in dry(*words)) is wanted, words


@pytest.mark.parametrize(
    ("path", "selection", "held"),
    [
        ("systemd/test_stop.py", "systemd and not long", True),
        ("systemd/test_stop.py", "not systemd and not root", False),
        ("systemd/test_cron.py", "systemd and not long", False),
        ("systemd/test_cron.py", "(systemd or root) and long", True),
        ("systemd/test_exec.py", "both and not long", False),
        ("unit/test_titles.py", "root", True),
        ("unit/test_titles.py", "systemd", False),
        ("unit/test_titles.py", "", True),
        ("unit/test_titles.py", "this is no selection", True),
    ],
)
def test_a_file_is_left_unread_that_holds_nothing_asked_for(
    path: str, selection: str, held: bool
) -> None:
    assert selecting.may_hold(CHECKOUT / "tests" / path, path, selection) is held


@pytest.mark.timeout(900)  # it reads all files of tests twice
@pytest.mark.parametrize("selection", [SYSTEMD, HERE])
def test_no_test_is_missed_by_leaving_files_unread(selection: str) -> None:
    def collected(*argv: str) -> set[str]:
        listed = subprocess.run(
            [*PYTEST, "--collect-only", "-m", selection, *argv, "tests"],
            cwd=CHECKOUT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return {line for line in listed.stdout.splitlines() if "::" in line}

    everything = collected("--read-all")
    assert len(everything) > 500
    assert collected() == everything
