"""A diff of edits is the one that patch(1) takes, whatever the edits."""

import shutil
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopekeeper.mcp_configs.document import Edit, apply
from scopekeeper.mcp_configs.edit_diff import unified


@st.composite
def edited(draw):
    """Return a text, and edits of it that do not overlap."""
    text = "".join(draw(st.lists(st.sampled_from(["a\n", "b\n", "\n", "c", "d\r\n"]), max_size=40)))
    at = st.integers(0, len(text))
    places = sorted(draw(st.lists(at, max_size=8, unique=True)))
    edits = [
        Edit(start, end, draw(st.sampled_from(["", "x", "x\n", "\nx", "x\ny\nz"])))
        for start, end in zip(places[::2], places[1::2], strict=False)
    ]
    return text, edits


@pytest.mark.skipif(not shutil.which("patch"), reason="there is no patch(1) here")
@given(edited())
@settings(max_examples=120, deadline=None)
def test_patch_makes_the_same_text_of_it(tmp_path_factory, case):
    text, edits = case
    new = apply(text, edits)
    path = tmp_path_factory.getbasetemp() / "edited"
    path.write_bytes(text.encode())
    diff = unified("edited", text, edits)
    assert bool(diff) == (new != text)
    if diff:
        made = subprocess.run(
            ["patch", "--binary", "-s", "-F0", "-o", "-", str(path)],
            input=diff.encode(), capture_output=True, check=True,
        )  # fmt: skip
        assert made.stdout.decode() == new


def test_only_what_changes_is_shown_with_three_lines_around_it():
    text = "".join(f"{number}\n" for number in range(1, 101))
    at = text.index("50\n")
    diff = unified("a b", text, [Edit(at, at + 2, "fifty"), Edit(at + 6, at + 6, "more\n")])
    assert diff == (
        "--- a b\t\n+++ a b\t\n@@ -47,8 +47,9 @@\n 47\n 48\n 49\n-50\n+fifty\n 51\n+more\n 52\n"
        " 53\n 54\n"
    )


def test_a_large_file_costs_what_its_edits_cost():
    lines = [f"line {number % 1500}\n" for number in range(1_000_000)]
    text = "".join(lines)
    edits = [Edit(at, at, "x") for at in range(0, len(text), len(text) // 20)]
    start = time.process_time()
    assert unified("f", text, edits).count("@@ -") == len(edits)
    assert time.process_time() - start < 1  # difflib alone takes minutes
