"""The page of `report`: nothing in it can become markup, and it may run and fetch nothing else."""

import base64
import hashlib
import html
import html.parser
import itertools
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scopekeeper
from scopekeeper.report import markup
from scopekeeper.report.model import REASONS, RUNNING, Life, Outside, Report, Running, css_class
from scopekeeper.report.page import HEAD, page
from scopekeeper.safe_text import safe
from scopekeeper.scope.reason import Reason
from tests.browser.days import HOSTILE
from tests.unit import colours

MADE = datetime(2026, 1, 31, 14, 30, tzinfo=UTC).timestamp()
VOID = {"meta", "input"}
CSS = (Path(scopekeeper.__file__).parent / "report/page.css").read_text()


def life(**how):
    known = {
        "session": "agent:main:main", "lane": "main", "unit": "a.scope", "member": "git",
        "reason": "exited", "started": MADE - 3600, "ended": MADE - 600,
    }  # fmt: skip
    return Life(**(known | how))


def report(*lives, **how):
    known = {"machine": "host", "begin": MADE - 86400, "made": MADE, "version": "1", "zone": UTC}
    return Report(lives=lives, **(known | how))


class Reader(html.parser.HTMLParser):
    """Reads a page as a browser would, and fails where an element is not ended."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts = [], [], []
        self.inside = {"script": [], "style": []}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]].append(data)

    def rows(self, data):
        """Return the rows for the script."""
        return [
            [c if isinstance(c, str) else c[0] for c in row] for row in json.loads(data)["rows"]
        ]


@given(st.text())
def test_a_text_is_one_text_and_an_attribute_one_attribute(text):
    read = Reader(markup.tag("p", text, title=text, data_find=text))
    assert read.tags == [("p", {"title": safe(text), "data-find": safe(text)})]
    assert "".join(read.texts) == safe(text)


@given(st.recursive(st.text() | st.none() | st.integers(), st.lists, max_leaves=5))
def test_data_for_scripts_comes_back_and_cannot_end_its_element(value):
    written = markup.data(value, "data")
    head, _, rest = written.partition(">")
    content = rest.removesuffix("</script>")
    assert head == '<script type="application/json" id="data"'
    assert not set("<>&\u2028") & set(content)
    assert content.isascii()
    assert json.loads(content) == value


def hostile_report(text):
    return report(
        life(session=text, lane=text, unit=text, member=text, evidence=text, status=text,
             command=text, user=text, host=text, kind="mcp", cpu=1.0, memory_peak=5),
        life(session=text, member=text, reason=RUNNING, ended=None, user=text, host=text, cpu=2.0),
        machine=text, version=text, notes=(text,), users=True, commands=True,
        running=(Running(text, text, text, "orphan", text, text, 1, 1, 5.0, user=text, host=text),),
        outside=(Outside(text, text, 5, text, text, text, text),), hosts=(text, "other"),
    )  # fmt: skip


PLAIN_TAGS = [tag for tag, _ in Reader(page(hostile_report("plain"))).tags]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text_everywhere(text):
    written = page(hostile_report(text))
    read = Reader(written)
    assert [tag for tag, _ in read.tags] == PLAIN_TAGS
    assert safe(text) in "".join(read.texts)
    assert not any(name.startswith("on") or name == "style"
                   for _, attributes in read.tags for name in attributes)  # fmt: skip
    assert written.replace("\n", "").isprintable(), "nothing controls a terminal or the direction"
    _, row = read.rows(read.inside["script"][0])
    assert row.count(safe(text)) == 8, (
        "host, user, session, lane, member, status, evidence, command"
    )


@settings(max_examples=30)
@given(st.text(max_size=30))
def test_any_names_are_text_everywhere(text):
    assert [tag for tag, _ in Reader(page(hostile_report(text))).tags] == PLAIN_TAGS


def test_its_policy_allows_what_is_inside_and_nothing_else():
    written = page(report(life(), notes=("https://example.org/ is text",)))
    read = Reader(written)
    (policy,) = (a["content"] for _, a in read.tags if a.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    _, script = read.inside["script"]
    (style,) = read.inside["style"]
    for name, content in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules.pop(name) == f"'sha256-{digest}'"
    assert rules == dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    kinds = [a.get("type") for tag, a in read.tags if tag == "script"]
    assert kinds == ["application/json", None]
    assert not any({"src", "href", "srcset", "action"} & a.keys() for _, a in read.tags)
    assert "url(" not in style
    assert "@import" not in style
    assert written.startswith(HEAD)


def test_without_any_member_it_has_no_script_and_says_so():
    read = Reader(page(report()))
    assert "script" not in [tag for tag, _ in read.tags]
    assert "No member has ended since then, and none runs." in read.texts
    assert "No scope that runs has lost its owner." in read.texts


def test_every_reason_has_a_colour_and_a_place_in_the_legend():
    assert set(REASONS) == {each.value for each in Reason} | {RUNNING}
    assert len(set(REASONS)) == len(REASONS)
    for reason in REASONS:
        assert f".{css_class(reason)} {{" in CSS, reason
    lives = [life(reason=each, ended=None if each == RUNNING else MADE - 5) for each in REASONS]
    chips = [a["data-reason"] for _, a in Reader(page(report(*lives))).tags if "data-reason" in a]
    assert chips == list(REASONS)


def themes():
    """Yield the colours of the light and of the dark theme."""
    for block in re.findall(r":root \{(.*?)\n *\}", CSS, re.DOTALL):
        yield {name: colours.parse(text)
               for name, text in re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)}  # fmt: skip


def test_any_two_reasons_look_different_whatever_one_sees_and_text_can_be_read():
    light, dark = themes()
    assert light.keys() == dark.keys()
    assert colours.contrast(light["back"], light["text"]) > 10
    used = set(re.findall(r"\.r-.* \{ fill: var\(--([a-z-]+)\)", CSS))
    assert len(used) == len(REASONS)
    for theme in (light, dark):
        for name, back in itertools.product(("text", "quiet", "link", "oom"), ("back", "card")):
            assert colours.contrast(theme[name], theme[back]) >= 4.5, (name, back)
        for vision, (one, other) in itertools.product(
            colours.VISIONS, itertools.combinations(sorted(used), 2)
        ):
            seen = [colours.seen(theme[name], vision) for name in (one, other)]
            assert colours.distance(*seen) > 8, (vision, one, other)


def test_columns_of_users_and_commands_are_there_if_asked_for():
    def titles(**how):
        read = Reader(page(report(life(user="alice", command="git --token hunter2"), **how)))
        table = html.unescape(page(report(life(), **how))).partition('id="lives"')[2]
        return re.findall(r'<button type="button">([A-Z]+)</button>', table), read.texts

    names, _ = titles()
    assert names == ["ENDED", "SESSION", "LANE", "MEMBER", "REASON", "STATUS", "LASTED", "PEAK",
                     "CPU", "EVIDENCE"]  # fmt: skip
    more, _ = titles(users=True, commands=True)
    assert more == ["USER", *names, "COMMAND"]


def test_what_is_unknown_or_seen_late_is_shown_so():
    lives = (
        life(seen=False, started=None, cpu=None, memory_peak=None),
        life(started=-1e300, ended=MADE - 1, cpu=61.0, memory_peak=3 << 20),
    )
    read = Reader(page(report(*lives)))
    newest, oldest = read.rows(read.inside["script"][0])
    assert newest[7:9] == ["3M", "1m1s"]
    assert oldest[0] == "≤2026-01-31 14:20:00"
    assert oldest[6:9] == ["-", "-", "-"]


def test_servers_are_those_of_kind_mcp_and_the_most_expensive_come_first():
    lives = [
        life(member="cheap", kind="mcp", cpu=1.0, memory_peak=900 << 20),
        life(member="busy", kind="mcp", cpu=40.0, memory_peak=1 << 20),
        life(member="busy", kind="mcp", cpu=None, session="agent:spark:main"),
        life(member="make", kind="exec", cpu=500.0),
    ]
    text = page(report(*lives)).partition("The most expensive servers")[2]
    by_cpu, by_memory = (
        re.findall(r"<tr><td>(\w+)</td><td class=\"number\">(\d+)</td><td class=\"number\">(\d+)"
                   r"</td><td class=\"number\">([^<]*)</td>", part)
        for part in (text.partition("By memory")[0], text.partition("By memory")[2])
    )  # fmt: skip
    assert by_cpu == [("busy", "2", "2", "≥40s"), ("cheap", "1", "1", "1.0s")]
    assert [name for name, *_ in by_memory] == ["cheap", "busy"]


def test_orphans_and_what_escaped_are_listed_with_their_evidence():
    scopes = [
        Running(f"agent:{at}", "main", "x.scope", state, "claude[7]", "process 7 has ended", 1, 2,
                60.0, memory=1 << 20)
        for at, state in enumerate(("running", "orphan", "kept", "abandoned"))
    ]  # fmt: skip
    outside = Outside("agent:5", "main", 4711, "chrome", "process 4711 is in /user.slice")
    text = page(report(life(), running=tuple(scopes), outside=(outside,)))
    lost = text.partition("Orphans and escapes")[2].partition("All members")[0]
    assert re.findall(r"<td>(agent:\d)</td>", lost) == ["agent:1", "agent:3", "agent:5"]
    assert "<td>4711</td><td>chrome</td><td>process 4711 is in /user.slice</td>" in lost
    assert "<dt>running without owner</dt><dd>2</dd>" in text
    assert "Running now: 4 scopes" in text
