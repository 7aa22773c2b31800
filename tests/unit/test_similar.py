"""A name that matches nothing is shown beside those that are like it."""

import pytest

from scopekeeper.cli.select_options import words_in_full
from scopekeeper.cli.similar import hint, like_selected, similar
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.selection import Selector

KNOWN = ("alpha", "agent:main:main", "agent:spark:main", "alpha", "")


@pytest.mark.parametrize(("wanted", "found"), [
    ("alpa", ["alpha"]),
    ("agent:main:man", ["agent:main:main"]),
    ("beta", []),
    ("", []),
])  # fmt: skip
def test_what_is_like_it_is_found(wanted: str, found: list[str]) -> None:
    assert similar(wanted, KNOWN)[:1] == found
    assert hint(wanted, KNOWN).startswith("; is it " + found[0] if found else "")
    assert bool(hint(wanted, KNOWN)) is bool(found)


UUID = "aaaa1111-2222-3333-4444-555566667777"
SESSIONS = (f"claude:{UUID}", f"claude:bbbb{UUID[4:]}", "agent:main:subagent:discord:chat:1234")


@pytest.mark.parametrize(("wanted", "found"), [
    ("claude:aaaa1111", [SESSIONS[0]]),
    ("claude:aaaa", [SESSIONS[0]]),
    ("claude:", [SESSIONS[0], SESSIONS[1]]),
    ("agent:…:chat:1234", [SESSIONS[2]]),
    ("claude:bbbb…", [SESSIONS[1]]),
    ("agent:…:discord:…:1234", [SESSIONS[2]]),
    ("agent:…:1234:…:discord", []),
    ("agent:…:telegram:…:1234", []),
    ("a…4", []),
    ("…", []),
    (SESSIONS[0], []),
])  # fmt: skip
def test_of_a_short_form_as_tables_have_it_the_whole_name_is_found(
    wanted: str, found: list[str]
) -> None:
    assert similar(wanted, SESSIONS) == found


@pytest.mark.parametrize(("wanted", "found"), [
    ("codex", ["codex-2206", "codex:0199a213"]),
    ("cod", []),
    ("co", []),
    ("s", []),
])  # fmt: skip
def test_a_first_word_finds_what_begins_with_it(wanted: str, found: list[str]) -> None:
    assert similar(wanted, ["codex-2206", "codex:0199a213", "codexes", "s-1"]) == found


def test_another_id_is_no_typing_error() -> None:
    ids = ["agent:main:subagent:5e0c21ab", "agent:main:subagent:91f2ce07"]
    assert similar("agent:main:subagent:0d3a7714", ids) == []
    assert similar("agent:main:subagnet:5e0c21ab", ids) == ids[:1]


def test_another_number_is_another_thing() -> None:
    assert similar("agent:x:1", ["agent:x:2", "agent:y:1"]) == ["agent:y:1"]


def test_the_option_that_nothing_has_gets_the_hint() -> None:
    scope = Scope("u.scope", "/d", "/c", 0, "alpha", "main")
    snapshot = Snapshot((scope,), 0)
    assert like_selected(Selector(session="alpa"), snapshot) == "; is it alpha?"
    assert like_selected(Selector(session="alpha", lane="mian"), snapshot) == "; is it main?"
    assert like_selected(Selector(session="alpha", lane="main"), snapshot) == ""


def test_what_looks_takes_the_short_form_of_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    twin = f"claude:aaaa1111-9999{UUID[13:]}"
    own = Scope("u.scope", "/d", "/c", 0, SESSIONS[0], "main")
    other = Scope("v.scope", "/e", "/f", 0, twin, "main")
    one, both = Snapshot((own,), 0), Snapshot((own, other), 0)
    for word in ("claude:aaaa1111", "claude:aaaa1111…", "claude:…7777"):
        assert words_in_full((word, "x"), one) == (SESSIONS[0], "x")
        assert f"{word} is short for {SESSIONS[0]}\n" in capsys.readouterr().err
        assert words_in_full((word,), both) == (word,)
    for word in (SESSIONS[0], "claude:aaaa", "claude:bbbb1111…", "cl…77", "…", ""):
        assert words_in_full((word,), one) == (word,)
    assert capsys.readouterr().err == ""


def test_a_whole_name_comes_before_a_short_form(capsys: pytest.CaptureFixture[str]) -> None:
    scopes = [Scope(f"{x}.scope", f"/{x}", f"/{x}", 0, x, "main")
              for x in (SESSIONS[0], "claude:aaaa1111")]  # fmt: skip
    assert words_in_full(("claude:aaaa1111",), Snapshot(tuple(scopes), 0)) == ("claude:aaaa1111",)
    assert capsys.readouterr().err == ""
