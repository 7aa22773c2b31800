"""What `ls` and `ports` say of a call that finds nothing, because another one was meant."""

import subprocess
import sys

import pytest

from scopekeeper.cli.list_view import ListOptions
from scopekeeper.cli.ls_list import _of_tree
from scopekeeper.cli.ls_rows import COLUMNS
from scopekeeper.cli.ls_unknown import unknown_memory
from scopekeeper.cli.ports import _meant
from scopekeeper.errors import UsageError
from scopekeeper.scope.model import Scope


def scope(memory):
    return Scope("scopekeeper-s-main.scope", "/x", "/x", 0, "s", "main", memory_bytes=memory)


@pytest.mark.parametrize("word", ["8123", ":8123", "1", "65535"])
def test_a_number_that_names_nothing_is_shown_as_a_port(word):
    (line,) = _meant([word, "other"])
    assert line == f"scopekeeper: for a port: scopekeeper ports --port {word.lstrip(':')}"


@pytest.mark.parametrize(
    "word", ["", ":", "0", "65536", "012", "1234567", "8123x", "::1", "\u0661"]
)
def test_what_is_no_number_of_a_port_is_not(word):
    assert list(_meant([word])) == []


def test_a_memory_that_is_not_counted_is_named():
    view = ListOptions(where=("memory>1M",)).view(COLUMNS)
    (line,) = unknown_memory(view, [scope(None)])
    assert "no memory controller" in line
    assert unknown_memory(view, [scope(None), scope(1)]) == []
    assert unknown_memory(view, []) == []
    for other in ("memory=-", "age>1m"):
        assert unknown_memory(ListOptions(where=(other,)).view(COLUMNS), [scope(None)]) == []


@pytest.mark.parametrize("options", [{"sort": "-rss"}, {"where": ("rss>20M",)}])
def test_a_tree_says_whose_fields_count(options):
    with pytest.raises(UsageError, match=r"there is no field 'rss'.*about scopes, by the fields"):
        _of_tree(ListOptions(**options))
    assert _of_tree(ListOptions(sort="-memory", columns="rss")).orders


@pytest.mark.parametrize("more", [[], ["--tree"]])
def test_no_empty_table_follows_an_unknown_name(tmp_path, more):
    words = [sys.executable, "-m", "scopekeeper", "ls", "there-is-no-such-name", *more]
    ran = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ran.returncode == 1:
        pytest.skip(ran.stderr)  # no cgroup2 here
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "there-is-no-such-name" in ran.stderr
