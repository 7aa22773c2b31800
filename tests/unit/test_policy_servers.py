"""Rules of MCP servers by their names: read, compiled, and put before those of the lane."""

import re

import pytest

from scopekeeper.launch.request import Request
from scopekeeper.policy import cached, compile_cache, files
from scopekeeper.policy.rules import parse
from scopekeeper.policy.toml_file import PolicyError

TEXT = """\
[lanes.default]
member_memory_max = "1G"
min_available = "2G"
when_short = "wait"
wait_most = "5s"

[servers.playwright]
member_memory_max = "1.5G"
member_memory_swap_max = 0
min_available = "3G"

[servers."a b.c"]
member_tasks_max = 20
when_short = "refuse"
"""


def policy(*texts):
    return parse([(f"/etc/{number}.toml", text) for number, text in enumerate(texts)])


def test_the_line_of_each_is_known():
    servers = policy(TEXT).servers
    assert {name: sorted(table) for name, table in servers.items()} == {
        "playwright": ["member_memory_max", "member_memory_swap_max", "min_available"],
        "a b.c": ["member_tasks_max", "when_short"],
    }
    assert servers["playwright"]["member_memory_swap_max"].source == "/etc/0.toml:9"
    assert servers["a b.c"]["when_short"].source == "/etc/0.toml:14"


def test_a_later_file_overrides_single_rules_of_a_server():
    made = policy(TEXT, '[servers.playwright]\nmin_available = "4G"')
    table = made.servers["playwright"]
    assert (table["min_available"].value, table["min_available"].source) == ("4G", "/etc/1.toml:2")
    assert table["member_memory_max"].value == "1.5G"


WRONG = {
    "a list": ("servers = 5", 1, r"write \[servers.NAME\]"),
    "no table": ('[servers]\nmember_memory_max = "1G"', 2, r"in no server's table; write \[serv"),
    "nearly right": ("[server.x]\nmember_tasks_max = 5", 1, r"unknown table server; write \[serv"),
    "an empty name": ('[servers.""]\nmember_tasks_max = 5', 1, "is no name of a server"),
    "a name with a tab": ('[servers."a\\tb"]\nmember_tasks_max = 5', 1, "is no name of a server"),
    "a name that is too long": (f"[servers.{'x' * 256}]\n", 1, "is no name of a server"),
    "of a scope": ('[servers.x]\nmemory_swap_max = "1G"', 2, "write member_memory_swap_max"),
    "of a lane": ('[servers.x]\nttl = "1h"', 2, r"no rule of a server; put it under \[lanes.def"),
    "misspelt": ("[servers.x]\nmember_task_max = 5", 2, "did you mean member_tasks_max"),
    "no size": ('[servers.x]\nmember_memory_max = "0"', 2, "a size above zero"),
    "no swap": ('[servers.x]\nmember_memory_swap_max = "-1"', 2, "is not a size"),
    "no choice": ('[servers.x]\nwhen_short = "stop"', 2, "when_short is 'refuse' or 'wait'"),
    "no percentage": ("[servers.x]\nmax_pressure = 100", 2, "percent, from 0 to 99"),
    "no score": ("[servers.x]\noom_score_adjust = 1001", 2, "a whole number from 0 to 1000"),
    "no place": ('[servers.x]\nstderr = "x"', 2, "stderr is 'inherit' or 'journal' or 'file'"),
    "a score below": ("[servers.x]\noom_score_adjust = -1", 2, "a whole number from 0 to 1000"),
    "no preference": ('[servers.x]\nmanaged_oom_preference = "kill"', 2, "'none' or 'avoid' or"),
    "a percentage in quotes": ('[servers.x]\nmax_pressure = "10"', 2, "percent, from 0 to 99"),
    "no end": ('[servers.x]\nwait_most = "infinity"', 2, "is not a duration"),
    "no flag": ('[servers.x]\nscratch = "yes"', 2, "scratch is true or false"),
    "no size of a folder": ('[servers.x]\nscratch_max = "0"', 2, "is not a size"),
    "no memory": ('[servers.x]\nmin_available = "0"', 2, "is not a size; write 512M or 2G"),
    "a lane with a line end": ('[lanes."a\\nb"]\nttl = "1h"', 1, "is no lane class"),
}


@pytest.mark.parametrize(("text", "line", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_one_is_one_line_that_says_where(text, line, words):
    with pytest.raises(PolicyError) as caught:
        policy(text)
    assert str(caught.value).startswith(f"/etc/0.toml:{line}: ")
    assert re.search(words, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """Write a policy and return what a launch reads of it."""
    monkeypatch.setattr(files, "SYSTEM", str(tmp_path / "etc"))
    monkeypatch.setitem(files.posix.environ, files.VARIABLE, str(tmp_path).encode())
    for module in (cached, compile_cache):
        monkeypatch.setattr(module, "compiled_path", lambda: str(tmp_path / "run/rules"))

    def write(text=TEXT):
        (tmp_path / "config.toml").write_text(text)
        warnings = list[str]()
        read = cached.CachedRules(warnings)
        assert not warnings
        return read

    return write


def launch(rules, name, **options):
    return Request({"session": "s", "name": name, **options}, {}, "true", rules)


def test_a_servers_rules_go_before_its_lanes_and_its_launch_before_them(rules):
    made = launch(rules(), "playwright")
    assert made.member_limits == {"member_memory_max": 3 << 29, "member_memory_swap_max": 0}
    assert made.gate == {"min_available": str(3 << 30), "when_short": "wait",
                         "wait_most": "5000000us"}  # fmt: skip
    assert launch(rules(), "other").member_limits == {"member_memory_max": 1 << 30}
    assert launch(rules(), "other").gate["min_available"] == str(2 << 30)
    given = launch(rules(), "playwright", member_memory_max="64M").member_limits
    assert given == {"member_memory_max": 64 << 20, "member_memory_swap_max": 0}
    quoted = launch(rules(), "a b.c")
    assert quoted.member_limits == {"member_memory_max": 1 << 30, "member_tasks_max": 20}
    assert quoted.gate["when_short"] == "refuse"


def test_the_score_of_a_server_overrides_its_lanes(rules):
    text = "[lanes.default]\noom_score_adjust = 500\n[servers.x]\noom_score_adjust = 0\n"
    assert launch(rules(text), "y").oom_score == 500
    assert launch(rules(text), "x").oom_score == 0
    assert launch(rules(), "x").oom_score == 0


def test_the_preference_of_a_server_overrides_its_lanes(rules):
    text = '[lanes.default]\nmanaged_oom_preference = "none"\n'
    text += '[servers.x]\nmanaged_oom_preference = "omit"\n'
    made = {name: launch(rules(text), name).oomd_preference for name in ("x", "y")}
    assert made == {"x": "omit", "y": "none"}
    assert launch(rules(), "x").oomd_preference == ""


def test_they_are_for_mcp_servers_only(rules):
    for kind in ("exec", "pty"):
        made = launch(rules(), "playwright", kind=kind)
        assert made.member_limits == {"member_memory_max": 1 << 30}
    assert launch(rules(), "playwright", kind="mcp").member_limits["member_memory_max"] == 3 << 29


def test_the_name_is_that_of_the_command_if_none_is_given(rules):
    made = Request({"session": "s"}, {}, "/usr/bin/playwright", rules())
    assert made.member_limits["member_memory_max"] == 3 << 29


def test_infinity_lifts_the_limit_of_the_lane(rules):
    text = TEXT.replace('"1.5G"', '"infinity"')
    assert launch(rules(text), "playwright").member_limits["member_memory_max"] == -1


def test_a_server_may_be_called_as_a_lane_is(rules):
    text = '[lanes.cron]\nttl = "1h"\n[servers.cron]\nmember_tasks_max = 7\n'
    made = launch(rules(text), "cron", lane="main")
    assert (made.member_limits, made.durations) == ({"member_tasks_max": 7}, {})
    made = launch(rules(text), "time", lane="cron")
    assert (made.member_limits, made.durations) == ({}, {"ttl": 3_600_000_000})


def test_nothing_is_gated_without_a_demand(rules):
    assert launch(rules('[lanes.main]\nwhen_short = "wait"\nwait_most = "9s"\n'), "x").gate == {}
    assert launch(rules("[lanes.main]\nmax_pressure = 10\n"), "x").gate == {"max_pressure": "10"}
    assert launch(rules(), "playwright", ungated="1").gate == {}


@pytest.mark.parametrize("entry", [
    "oom_score_adjust=-5", "oom_score_adjust=infinity", "managed_oom_preference=kill",
    "scratch=2", "scratch_max=infinity",
    "min_available=infinity", "max_pressure=infinity", "max_scopes=infinity", "min_available=",
    "wait_most=5", "when_short=stop", "member_memory_swap_max=--1", "\0",
])  # fmt: skip
@pytest.mark.parametrize("line", ["", ":x"])
def test_a_cache_with_something_else_is_made_anew(rules, tmp_path, line, entry):
    read = rules()
    read("main", "x")
    cache = tmp_path / "run/rules"
    signature, *_ = cache.read_text().split("\n")
    of_all = "\tephemeral=0\n" if line else ""
    cache.write_text(f"{signature}\n{of_all}{line}\t{entry}\n")
    assert read("main", "x")["min_available"] == str(2 << 30)


SCRATCH = """
[lanes.default]
scratch = true
scratch_max = "1G"
[lanes.cron]
scratch = false
[servers.plain]
scratch = false
[servers.browser]
scratch_max = "infinity"
[servers.big]
scratch = true
scratch_max = "5G"
"""


def test_a_server_has_a_scratch_folder_or_none_whatever_its_lane_says(rules):
    read = rules(SCRATCH)
    assert launch(read, "x").scratch_max == 1 << 30
    assert launch(read, "plain").scratch_max is None
    assert launch(read, "plain", scratch="1").scratch_max == 1 << 30
    assert launch(read, "browser").scratch_max == 0
    assert launch(read, "big", lane="cron").scratch_max == 5 << 30
    assert launch(read, "x", lane="cron").scratch_max is None
    assert launch(read, "x", lane="cron", scratch="1").scratch_max == 1 << 30
    assert launch(rules(), "x").scratch_max is None
    assert launch(rules(), "x", scratch="1").scratch_max == 0


def test_somebody_looks_only_if_a_rule_has_a_maximum():
    assert policy(SCRATCH).bounds_scratch
    assert policy('[servers.x]\nscratch_max = "1G"').bounds_scratch
    assert not policy("[lanes.default]\nscratch = true").bounds_scratch
