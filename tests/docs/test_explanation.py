"""The pages that explain: their tests are there, and their pictures are what the code draws."""

import ast
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.docs.blocks import ROOT
from tests.lab.suites import SUITES
from tests.pictures.diagrams import FOLDER, PICTURES
from tests.pictures.drawing import WIDTH, Drawing

SVG = "{http://www.w3.org/2000/svg}"


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def functions_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {each.name for each in nodes if isinstance(each, ast.FunctionDef)}


def test_the_tests_that_prove_it_are_there() -> None:
    files = list((ROOT / "tests").rglob("test_*.py"))
    there = set().union(*map(functions_of, files)) | {path.name for path in files}
    named = re.findall(r"`(test_[\w.]+)`", page("reliability"))
    assert len(named) > 30
    assert [each for each in named if each not in there] == []


def test_each_part_that_may_be_killed_has_its_tests() -> None:
    killed, proofs = re.findall(r"^\| killed .*\n\|[-|]+\n((?:\|.*\n)+)", page("reliability"),
                                flags=re.MULTILINE)  # fmt: skip
    parts = [row.split(" | ")[0] for row in proofs.splitlines()]
    for row in killed.splitlines():
        assert any(row.startswith(part) for part in parts), row


def test_each_bug_of_the_track_record_has_a_finder_a_commit_and_a_test() -> None:
    record = page("reliability").partition("## Track record")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in record.splitlines() if line.startswith("| ")]
    heads = [row for row in rows if row[0] == "bug"]
    bugs = [row for row in rows if row[0] != "bug"]
    assert len(bugs) > 25
    assert all(row == heads[0] for row in heads)
    for bug in bugs:
        _, since, finder, mended, tests = bug
        assert since in ("0.1.0", "not released"), bug
        assert finder, bug
        assert all(re.fullmatch(r"[0-9a-f]{7}", each) for each in mended.split()), bug
        assert re.fullmatch(r"(`test_[\w.]+` ?)+", tests), bug


def test_it_is_tested_on_the_systemds_of_the_lab() -> None:
    named = re.findall(
        r"^\| (?:\d+|testing) .*\| systemd (\d{3}),", page("reliability"), re.MULTILINE
    )
    assert len(named) == len([each for each in SUITES if not each.packages])


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_its_code_draws(name: str) -> None:
    drawn = PICTURES[name]()
    assert (FOLDER / name).read_text(encoding="utf-8") == drawn, "make docs writes it"
    assert f"](pictures/{name})" in page("concepts")
    root = ET.fromstring(drawn)
    assert "<script" not in drawn
    assert "http" not in drawn.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for shape in root.iter(f"{SVG}rect"):
        assert float(shape.get("x", 0)) + float(shape.get("width", 0)) <= WIDTH
        assert float(shape.get("y", 0)) + float(shape.get("height", 0)) <= float(root.get("height"))


def test_words_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="needs"):
        Drawing("").words(0, 0, "too long for so little room", room=50)


def budgets_of(path: Path) -> list[float]:
    """Return the greatest ratio of each comparison that a file of benchmarks makes."""
    found: list[float] = []
    for function in ast.parse(path.read_text(encoding="utf-8")).body:
        called = [each for each in ast.walk(function) if isinstance(each, ast.Call)]
        rows = [each for each in called if getattr(each.func, "id", "") == "Row"]
        for budget in (row.args[4] for row in rows):
            if isinstance(budget, ast.Name):
                found += loop_values(function, budget.id)
            elif isinstance(budget, ast.Constant) and budget.value is not None:
                found.append(budget.value)
    return found


def loop_values(function: ast.stmt, name: str) -> list[float]:
    """Return the constants that a variable has in the loop over tuples that sets it."""
    loops = [each for each in ast.walk(function) if isinstance(each, ast.For | ast.comprehension)]
    (loop,) = [each for each in loops if name in ast.unparse(each.target).strip("()").split(", ")]
    at = ast.unparse(loop.target).strip("()").split(", ").index(name)
    values = [row[at] for row in ast.literal_eval(loop.iter)]
    return [value for value in values if value is not None]


def test_what_the_benchmarks_compare_is_in_the_table() -> None:
    shown = map(float, re.findall(r"^\|.*\((\d\.\d\d)\) \|$", page("performance"), re.MULTILINE))
    files = sorted((ROOT / "benchmarks").glob("*.py"))
    assert sorted(shown) == sorted(budget for path in files for budget in budgets_of(path))
