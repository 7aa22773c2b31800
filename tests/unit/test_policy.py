"""Rules come out of files as they were meant, or a file and line say why not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.launch import rules as launch_rules
from scopekeeper.launch.member import Warnings
from scopekeeper.launch.request import Request
from scopekeeper.policy import compiled
from scopekeeper.policy.rules import FOREVER, Policy, PolicyError, parse


def policy(*texts):
    return parse([(f"/etc/{number}.toml", text) for number, text in enumerate(texts)])


def test_without_files_orphans_end_at_once_and_nothing_else_does():
    rules = Policy().rules("main")
    assert (rules.orphans, rules.orphan_grace, rules.on_leader_exit) == ("stop", 0, "linger")
    assert (rules.idle, rules.ttl, rules.max_scopes, rules.supersede) == (None, None, None, False)


@pytest.mark.parametrize("lane", ["nested", "cron", "heartbeat", "subagent"])
def test_lanes_that_live_for_one_run_are_known(lane):
    assert Policy().rules(lane).ephemeral
    assert not Policy().rules("main").ephemeral


def test_a_lanes_own_table_goes_before_the_default_whatever_the_order_of_files():
    made = policy('[lanes.cron]\nttl = "1h"', '[lanes.default]\nttl = "2h"\nreplace = true')
    assert made.rules("cron").ttl == 3_600_000_000
    assert made.rules("main").ttl == 7_200_000_000
    assert made.rules("cron").replace


def test_the_last_file_that_says_it_counts_and_is_named():
    made = policy('[lanes.cron]\n\nttl = "1h"\n', '# mine\n[lanes.cron]\nttl = "2h"')
    setting = made.settings("cron")["ttl"]
    assert (setting.value, setting.source) == (7_200_000_000, "/etc/1.toml:3")


def test_infinity_takes_back_what_another_file_said():
    made = policy('[lanes.default]\nttl = "1h"\norphan_grace = "5s"',
                  '[lanes.default]\nttl = "infinity"\norphan_grace = "infinity"')  # fmt: skip
    assert made.rules("main").ttl is None
    assert made.rules("main").orphan_grace == FOREVER


WRONG = {
    "no toml": ("[lanes.default\n", 1, "Expected ']'"),
    "no value": ("escaped = \n", 1, "Invalid value"),
    "an unknown setting": ('\n[lanes.main]\ntlt = "1h"', 3, "unknown setting tlt"),
    "at the top": ('ttl = "1h"', 1, r"put it under \[lanes.default\]"),
    "a wrong duration": ('[lanes.main]\n# a\nttl = "soon"', 3, "ttl: 'soon' is not a duration"),
    "a wrong choice": ('[lanes.main]\norphans = "kill"', 2, "orphans is 'stop' or 'report'"),
    "a wrong flag": ("[lanes.main]\nreplace = 1", 2, "replace is true or false"),
    "a wrong number": ("[lanes.main]\nmax_scopes = 0", 2, "above zero"),
    "a wrong size": ('[lanes.main]\nmemory_max = "much"', 2, "memory-max: 'much' is not a size"),
    "a list": ('[lanes.main]\nttl = ["1h"]', 2, "text in quotes"),
    "no table": ("lanes = 5", 1, r"write \[lanes.NAME\]"),
    "a lane that is none": ('[lanes]\nttl = "1h"', 2, "is in no lane's table"),
    "a lane with a colon": ('[lanes."cron:x"]\nttl = "1h"', 1, "lane's class ends at :"),
    "dotted": ('lanes.main.ttl = "x"', 1, "ttl"),
}


@pytest.mark.parametrize(("text", "line", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_one_line_that_says_where(text, line, words):
    with pytest.raises(PolicyError) as caught:
        policy(text)
    assert str(caught.value).startswith(f"/etc/0.toml:{line}: ")
    assert re.search(words, str(caught.value))
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_a_policy_error(text):
    problem = "/etc/0.toml:1: "
    try:
        policy(text)
    except PolicyError as error:
        problem = str(error)
    assert re.match(r"/etc/0.toml:\d+: ", problem)


SCALARS = st.one_of(
    st.booleans(), st.integers(-5, 10**12), st.sampled_from(["stop", "5s", "1G", "infinity", ""])
)


@given(st.dictionaries(st.sampled_from(list(Policy().settings("x"))), SCALARS, max_size=6))
def test_what_is_accepted_can_be_compiled_and_used_by_a_launch(said):
    lines = ["[lanes.cron]"] + [
        f"{key} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for key, v in said.items()
    ]
    try:
        made = policy("\n".join(lines))
    except PolicyError:
        return
    (line,) = [each for each in compiled.lines(made) if each.startswith("cron\t")]
    options = dict(entry.split("=", 1) for entry in line.split("\t")[1:])
    request = Request({"session": "s", "lane": "cron"}, {}, "true", lambda _: dict(options))
    assert request.replace == bool(made.rules("cron").replace)
    assert request.durations.get("ttl") == made.rules("cron").ttl


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Give a home with a folder for rules, and a runtime folder for what is made of them."""
    folder = tmp_path / ".config/scopekeeper/config.d"
    folder.mkdir(parents=True)
    monkeypatch.setattr(launch_rules, "SYSTEM", str(tmp_path / "etc"))
    monkeypatch.setitem(launch_rules.posix.environ, b"HOME", str(tmp_path).encode())
    for module in (launch_rules, compiled):
        monkeypatch.setattr(module, "compiled_path", lambda: str(tmp_path / "run/rules"))
    return folder.parent


def said(lane, warnings=None):
    return launch_rules.Rules(Warnings() if warnings is None else warnings)(lane)


def test_a_launch_reads_the_rules_of_its_lane_again_when_a_file_changes(home):
    assert said("cron") == {}
    (home / "config.toml").write_text('[lanes.cron]\nttl = "1h"\n')
    assert said("cron") == {"ephemeral": "1", "ttl": "3600000000us"}
    assert said("main") == {"ephemeral": "0"}
    (home / "config.d/10-more.toml").write_text("[lanes.default]\nreplace = true\n")
    assert said("cron") == {"ephemeral": "1", "ttl": "3600000000us", "replace": "1"}
    assert said("main") == {"ephemeral": "0", "replace": "1"}
    (home / "config.d/10-more.toml").unlink()
    assert "replace" not in said("cron")


def test_unchanged_files_are_not_read_again(home, monkeypatch):
    (home / "config.toml").write_text('[lanes.cron]\nttl = "1h"\n')
    first = said("cron")
    monkeypatch.setattr(compiled, "load", lambda: pytest.fail("read again"))
    assert said("cron") == first


def test_a_file_that_became_wrong_is_told_and_the_last_good_rules_stay(home):
    (home / "config.toml").write_text('[lanes.cron]\nttl = "1h"\n')
    first = said("cron")
    (home / "config.toml").write_text('[lanes.cron]\nttl = "never"\n')
    warnings = Warnings()
    assert said("cron", warnings) == first
    assert "config.toml:2" in warnings[0]
    (home / "config.toml").write_text('[lanes.cron]\nttl = "2h"\n')
    assert said("cron")["ttl"] == "7200000000us"


def test_rules_do_not_replace_what_a_derived_session_shares():
    def rules(_):
        return {"replace": "1", "ephemeral": "0"}

    assert Request({"session": "s"}, {}, "true", rules).replace
    assert not Request({}, {}, "true", rules).replace
    assert Request({"replace": "1"}, {}, "true", rules).replace


def test_what_a_launch_says_goes_before_the_rules():
    def rules(_):
        return {"lifetime": "session", "ttl": "1h", "ephemeral": "1"}

    made = Request({"session": "s", "lifetime": "gateway", "session_id": "7"}, {}, "true", rules)
    assert (made.lifetime, made.run, made.durations["ttl"]) == ("gateway", "7", 3_600_000_000)
    assert "ttl" not in made.asked
