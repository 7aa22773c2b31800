"""Rules come out of files as they were meant, or a file and line say why not."""

import grp
import os
import pwd
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper import users
from scopekeeper.launch.request import Request
from scopekeeper.policy import cached, compile_cache, files
from scopekeeper.policy.rules import Policy, parse
from scopekeeper.policy.toml_file import PolicyError
from scopekeeper.policy.values import FOREVER
from scopekeeper.scope.records import KINDS


def policy(*texts):
    return parse([(f"/etc/{number}.toml", text) for number, text in enumerate(texts)])


def test_without_files_orphans_end_at_once_and_nothing_else_of_a_living_command_does():
    rules = Policy().rules("main")
    assert (rules.orphans, rules.orphan_grace) == ("stop", 0)
    assert (rules.idle, rules.ttl, rules.max_scopes, rules.supersede) == (None, None, None, False)


def leader_exit(made, lane="main"):
    """Return by kind what is done with what a command leaves."""
    return {kind: made.rules(lane, kind).on_leader_exit for kind in KINDS}


def test_without_files_only_what_a_server_leaves_ends_after_ten_seconds():
    assert leader_exit(Policy()) == {"mcp": "stop", "pty": "linger", "exec": "linger"}
    assert Policy().rules("main", "mcp").leader_grace == 10_000_000
    # a record that says nothing, or what nobody knows, is no reason to end anything
    assert Policy().rules("main", "").on_leader_exit == "linger"
    assert Policy().rules("main", "other").on_leader_exit == "linger"


def test_the_table_of_a_kind_overrides_that_of_its_lane():
    made = policy(
        '[lanes.default]\non_leader_exit = "linger"\n[lanes.default.exec]\nleader_grace = "1s"',
        '[lanes.cron.pty]\non_leader_exit = "stop"\n[lanes.sub]\nleader_grace = "2s"',
    )
    assert leader_exit(made) == dict.fromkeys(KINDS, "linger")
    assert leader_exit(made, "cron") == {"mcp": "linger", "pty": "stop", "exec": "linger"}
    grace = {(lane, kind): made.rules(lane, kind).leader_grace / 1e6
             for lane in ("cron", "sub") for kind in ("exec", "mcp")}  # fmt: skip
    assert grace == {
        ("cron", "exec"): 1,
        ("cron", "mcp"): 10,
        ("sub", "exec"): 2,
        ("sub", "mcp"): 2,
    }


def escaped(made, lane="main"):
    """Return by kind what is done about what has left its scope; '' is a kind nobody knows."""
    return {kind: made.escaped(lane, kind) for kind in (*KINDS, "")}


def test_what_leaves_a_server_comes_back_and_what_leaves_a_shell_is_shown():
    built_in = {"mcp": "return", "pty": "report", "exec": "report", "": "report"}
    assert escaped(Policy()) == built_in
    assert escaped(policy('[lanes.cron]\nescaped = "stop"'), "main") == built_in


@pytest.mark.parametrize("text", ["rewrap = true", "[lanes.default]\nrewrap = true"])
def test_servers_are_wrapped_that_appear_only_if_a_rule_says_so(text):
    assert not Policy().rules("default").rewrap
    assert policy(text).rules("default").rewrap
    assert not policy(text, "rewrap = false").rules("default").rewrap


@pytest.mark.parametrize("text", ["[lanes.cron]\nrewrap = true",
                                  "[lanes.default.mcp]\nrewrap = true"])  # fmt: skip
def test_a_configuration_is_of_no_single_lane(text):
    with pytest.raises(PolicyError, match=r"0.toml:2: rewrap is no rule of a lane; put it under"):
        policy(text)
    with pytest.raises(PolicyError, match="rewrap is true or false"):
        policy('rewrap = "yes"')


@pytest.mark.parametrize("text", ['escaped = "stop"', '[lanes.default]\nescaped = "stop"'])
def test_at_the_top_of_a_file_it_is_for_every_lane_and_kind(text):
    assert escaped(policy(text), "cron:1") == dict.fromkeys((*KINDS, ""), "stop")


def test_a_lane_and_a_kind_may_differ_in_it():
    made = policy('escaped = "stop"', '[lanes.cron]\nescaped = "report"\n'
                  '[lanes.cron.exec]\nescaped = "return"')  # fmt: skip
    assert escaped(made, "cron:1") == {"mcp": "report", "pty": "report", "exec": "return",
                                       "": "report"}  # fmt: skip
    assert escaped(made)["mcp"] == "stop"


@pytest.mark.parametrize(("text", "line"), [
    ('[lanes.default]\n[lanes.default.mcp]\n\non_leader_exit = "linger"', 4),
    ('[lanes.default]\nttl = "1h"\nmcp.on_leader_exit = "linger"', 3),
    ('[lanes.default]\nttl = "1h"\nmcp = { leader_grace = "1s", on_leader_exit = "linger" }', 3),
    ('[lanes."default".\'mcp\']\n"on_leader_exit" = "linger"', 2),
    ('lanes.default.mcp.on_leader_exit = "linger"', 1),
    ('[other]\n[lanes.default.exec]\non_leader_exit = "stop"\n[lanes.default.mcp]\n'
     'on_leader_exit = "linger"'.replace("[other]", "# mcp ="), 5),
])  # fmt: skip
def test_the_line_that_a_rule_of_a_kind_is_in_is_known(text, line):
    setting = policy(text).settings("main", "mcp")["on_leader_exit"]
    assert (setting.value, setting.source) == ("linger", f"/etc/0.toml:{line}")


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
    "a word without quotes": ("escaped = stop", 1, 'in quotes: escaped = "stop"'),
    "a time without quotes": ("[lanes.main]\nttl = 30s # soon", 2, 'in quotes: ttl = "30s"'),
    "a number twice": ("[lanes.main]\nttl = 30\nttl = 30", 3, "Cannot overwrite a value"),
    "a table that is nearly right": ('[lane.main]\nttl = "1h"', 1, "write .lanes.NAME"),
    "a setting that is nearly right": ('[lanes.main]\ntll = "1h"', 2, "did you mean ttl"),
    "an unknown setting": ('\n[lanes.main]\ntlt = "1h"', 3, "unknown setting tlt"),
    "at the top": ('ttl = "1h"', 1, r"put it under \[lanes.default\]"),
    "a wrong duration": ('[lanes.main]\n# a\nttl = "soon"', 3, "ttl: 'soon' is not a duration"),
    "a wrong choice": ('[lanes.main]\norphans = "kill"', 2, "orphans is 'stop' or 'report'"),
    "a wrong flag": ("[lanes.main]\nreplace = 1", 2, "replace is true or false"),
    "a wrong number": ("[lanes.main]\nmax_scopes = 0", 2, "above zero"),
    "a wrong size": ('[lanes.main]\nmemory_max = "much"', 2, "memory_max: 'much' is not a size"),
    "a list": ('[lanes.main]\nttl = ["1h"]', 2, "text in quotes"),
    "no table": ("lanes = 5", 1, r"write \[lanes.NAME\]"),
    "a lane that is none": ('[lanes]\nttl = "1h"', 2, "is in no lane's table"),
    "a lane with a colon": ('[lanes."cron:x"]\nttl = "1h"', 1, "lane's class ends at :"),
    "a kind that is no table": ("[lanes.main]\nmcp = 5", 2, r"write \[lanes.main.mcp\]"),
    "a rule of a scope by kind": (
        '[lanes.main.mcp]\nttl = "1h"',
        2,
        r"ttl is no rule of a kind; put it under \[lanes.main\]",
    ),
    "unknown by kind": ('[lanes.main.mcp]\ntlt = "1h"', 2, "unknown setting tlt"),
    "a kind that is none": ('[lanes.main.mpc]\norphans = "stop"', 1, "unknown setting mpc"),
    "wrong by kind": ("[lanes.main.mcp]\non_leader_exit = 1", 2, "'stop' or 'linger'"),
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
    (line,) = [each for each in compile_cache.lines(made) if each.startswith("cron\t")]
    options = dict(entry.split("=", 1) for entry in line.split("\t")[1:])
    request = Request({"session": "s", "lane": "cron"}, {}, "true", lambda *_: dict(options))
    assert request.replace == bool(made.rules("cron").replace)
    assert request.durations.get("ttl") == made.rules("cron").ttl


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Give a home with a folder for rules, and a runtime folder for what is made of them."""
    folder = tmp_path / "rules/config.d"
    folder.mkdir(parents=True)
    monkeypatch.setattr(files, "SYSTEM", str(tmp_path / "etc"))
    monkeypatch.setitem(files.posix.environ, files.VARIABLE, str(folder.parent).encode())
    for module in (cached, compile_cache):
        monkeypatch.setattr(module, "compiled_path", lambda: str(tmp_path / "run/rules"))
    return folder.parent


def said(lane, warnings=None):
    return cached.CachedRules(list[str]() if warnings is None else warnings)(lane)


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
    monkeypatch.setattr(compile_cache, "load", lambda: pytest.fail("read again"))
    assert said("cron") == first


def test_a_file_that_became_wrong_is_told_and_the_last_good_rules_stay(home):
    (home / "config.toml").write_text('[lanes.cron]\nttl = "1h"\n')
    first = said("cron")
    (home / "config.toml").write_text('[lanes.cron]\nttl = "never"\n')
    warnings = list[str]()
    assert said("cron", warnings) == first
    assert "config.toml:2" in warnings[0]
    (home / "config.toml").write_text('[lanes.cron]\nttl = "2h"\n')
    assert said("cron")["ttl"] == "7200000000us"


def test_where_the_users_files_are_does_not_go_by_home(monkeypatch, tmp_path):
    monkeypatch.delitem(files.posix.environ, files.VARIABLE, raising=False)
    monkeypatch.setitem(files.posix.environ, b"HOME", str(tmp_path).encode())
    own = pwd.getpwuid(os.getuid()).pw_dir
    assert files.folders() == ["/etc/scopekeeper", f"{own}/.config/scopekeeper"]


NOT_OURS = {
    "a file that all can write": ("config.toml", 0o666, "chmod go-w"),
    "a folder that all can write": ("", 0o777, "chmod go-w"),
    "more files that all can change": ("config.d", 0o1777, "chmod go-w"),
    "one of them": ("config.d/5.toml", 0o602, "chmod go-w"),
}


@pytest.mark.parametrize("how", NOT_OURS)
def test_what_others_can_write_is_ignored_and_said(home, how):
    (home / "config.d/5.toml").write_text('[lanes.main]\nttl = "1h"\n')
    (home / "config.toml").write_text('[lanes.main]\ngrace = "7s"\n')
    assert said("main").keys() == {"ephemeral", "ttl", "grace"}
    name, mode, words = NOT_OURS[how]
    path = home / name
    good = path.stat().st_mode
    path.chmod(mode)
    warnings = list[str]()
    kept = said("main", warnings).keys()
    assert ("ttl" in kept) == (name == "config.toml")
    assert ("grace" in kept) == name.startswith("config.d")
    assert len(warnings) == 1
    assert f"{home / name} is ignored" in warnings[0]
    assert words in warnings[0]
    path.chmod(good)
    assert said("main", warnings).keys() == {"ephemeral", "ttl", "grace"}
    assert len(warnings) == 1, "a launch is told of what is mended"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is another's")
def test_what_another_user_owns_is_ignored_and_said(home):
    (home / "config.toml").write_text('[lanes.main]\nttl = "1s"\n')
    for path in (home, home / "config.toml"):
        os.chown(path, 1, 1)
        warnings = list[str]()
        assert "ttl" not in said("main", warnings)
        assert [f"{path} is ignored: it belongs to uid 1" in each for each in warnings] == [True]
        os.chown(path, 0, 0)
    assert said("main")["ttl"] == "1000000us"


def test_what_is_no_file_is_not_waited_for_and_a_link_to_one_of_ours_is_read(home):
    os.mkfifo(home / "config.toml")
    (home / "config.d/link.toml").symlink_to(home / "elsewhere")
    (home / "elsewhere").write_text('[lanes.main]\nttl = "1h"\n')
    warnings = list[str]()
    assert said("main", warnings)["ttl"] == "3600000000us"
    assert [f"{home}/config.toml is ignored: it is no regular file" in w for w in warnings] == [
        True
    ]


@pytest.mark.parametrize("name", ["config.toml", "config.d/link.toml", "config.d"])
def test_a_link_to_nothing_is_said(home, name):
    path = home / name
    if name == "config.d":
        path.rmdir()
    path.symlink_to(home / "nowhere")
    warnings = list[str]()
    assert "ttl" not in said("main", warnings)
    (line,) = warnings
    assert f"{path} is ignored: it is a link to nothing, {home}/nowhere" in line


def test_a_group_of_ones_own_may_write(home, monkeypatch):
    (home / "config.toml").write_text('[lanes.main]\nttl = "1h"\n')
    (home / "config.toml").chmod(0o664)
    private = users.is_private_group(os.getgid())
    assert ("ttl" in said("main")) == private
    monkeypatch.setattr(files, "is_private_group", lambda _: False)
    assert "ttl" not in said("main")


def test_only_a_group_of_the_users_name_with_nobody_else_in_it_is_private():
    mine = pwd.getpwuid(os.getuid())
    for group in grp.getgrall():
        alone = set(group.gr_mem) <= {mine.pw_name}
        expected = group.gr_gid == mine.pw_gid and group.gr_name == mine.pw_name and alone
        assert users.is_private_group(group.gr_gid) == expected
    assert not users.is_private_group(3_999_999_999)


@pytest.mark.parametrize("how", ["fifo", "folder", "link", "huge"])
def test_a_cache_that_is_none_is_not_waited_for(home, how):
    (home / "config.toml").write_text('[lanes.main]\nttl = "1h"\n')
    cache = home.parent / "run/rules"
    cache.parent.mkdir()
    if how == "fifo":
        os.mkfifo(cache)
    elif how == "folder":
        cache.mkdir()
    elif how == "link":
        cache.symlink_to("/dev/zero")
    else:
        with cache.open("wb") as file:
            file.truncate(10 << 30)
    for _ in range(2):
        assert said("main") == {"ephemeral": "0", "ttl": "3600000000us"}


FORGED = (
    b"ttl", b"ttl=--5us", b"ttl=" + b"9" * 5000 + b"us", b"ttl=nanus", b"ttl=", b"session=x",
    b"placement=mars", b"max_scopes=\xd9\xa3", b"lifetime=ever", b"replace=yes", b"memory_max=--5",
    b"\0", b"\xff=1",
)  # fmt: skip


@given(st.one_of(st.sampled_from(FORGED), st.binary(min_size=1, max_size=60)))
def test_whatever_was_made_of_the_cache_a_launch_takes_no_nonsense_from_it(
    tmp_path_factory, content
):
    folder = tmp_path_factory.getbasetemp() / "forged"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text('[lanes.main]\nttl = "1h"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "SYSTEM", str(folder / "etc"))
        patch.setitem(files.posix.environ, files.VARIABLE, str(folder).encode())
        for module in (cached, compile_cache):
            patch.setattr(module, "compiled_path", lambda: str(folder / "rules"))
        signature = files.find().signature.encode()
        (folder / "rules").write_bytes(signature + b"\n\t" + content)
        read = said("main")
    if content in FORGED:
        assert read == {"ephemeral": "0", "ttl": "3600000000us"}
    Request({"session": "s"}, {}, "true", lambda *_: dict(read))


def test_numbers_and_depths_that_no_parser_takes_are_one_line():
    for text in ("a = " + "9" * 5000, "a = " + "[" * 100_000):
        with pytest.raises(PolicyError) as caught:
            policy(text)
        assert "\n" not in str(caught.value)
    with pytest.raises(PolicyError, match="above zero"):
        policy(f"[lanes.main]\nmax_scopes = {'9' * 30}")
    with pytest.raises(PolicyError, match="too large"):
        policy(f"[lanes.main]\nmemory_max = '{'9' * 400}'")


def test_rules_do_not_replace_what_a_derived_session_shares():
    def rules(*_):
        return {"replace": "1", "ephemeral": "0"}

    assert Request({"session": "s"}, {}, "true", rules).replace
    assert not Request({}, {}, "true", rules).replace
    assert Request({"replace": "1"}, {}, "true", rules).replace


def test_what_a_launch_says_goes_before_the_rules():
    def rules(*_):
        return {"lifetime": "session", "ttl": "1h", "ephemeral": "1"}

    made = Request({"session": "s", "lifetime": "gateway", "session_id": "7"}, {}, "true", rules)
    assert (made.lifetime, made.run, made.durations["ttl"]) == ("gateway", "7", 3_600_000_000)
    assert "ttl" not in made.asked
