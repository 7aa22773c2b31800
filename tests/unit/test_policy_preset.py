"""Policy files to begin with are valid, fit the machine, and are checked as any other file is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopekeeper import quantities
from scopekeeper.kernel import memory
from scopekeeper.policy import presets
from scopekeeper.policy.rules import parse

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
MACHINES = [
    GIB // 4,
    GIB // 2,
    GIB,
    2 * GIB,
    3 * GIB,
    8 * GIB,
    25 * GIB,
    64 * GIB,
    1024 * GIB,
    9999 << 40,
]


@pytest.mark.parametrize("total", MACHINES)
@pytest.mark.parametrize("name", presets.NAMES)
def test_its_sizes_fit_each_other_and_the_machine(name, total):
    text = presets.text(name, total)
    policy = parse([(name, text)])
    rules = {key: each.value for key, each in policy.settings("cron").items() if each.value}
    sizes = [key for key in rules if "memory" in key or key == "min_available"]
    size = {key: quantities.size(key, rules[key]) for key in sizes}
    assert 0 < size["min_available"] <= total / 2
    assert 0 < size["member_memory_max"] <= size["memory_max"] < total
    assert 0 < size["memory_high"] <= size["memory_max"]
    assert size["member_memory_swap_max"] <= size["member_memory_max"]
    assert rules["max_scopes"] >= 2
    assert policy.rules("main").wait_most < 10_000_000, "clients give a server so long"
    for table in policy.servers.values():
        browser = quantities.size("", table["member_memory_max"].value)
        assert 0 < browser <= size["member_memory_max"]
    assert max(map(len, text.splitlines())) <= 80
    assert text.endswith("\n")


def test_a_workstation_keeps_more_for_its_user_than_a_server():
    kept = {name: parse([("", presets.text(name, 64 * GIB))]).rules("main").min_available
            for name in presets.NAMES}  # fmt: skip
    assert kept == {"small": "512M", "workstation": "8G", "server": "4G"}


@pytest.fixture
def call(tmp_path):
    """Call ``scopekeeper policy`` with the user's rules in a folder."""
    (tmp_path / "rules").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT),
                   "SCOPEKEEPER_CONFIG": str(tmp_path / "rules")}  # fmt: skip

    def do(*words, **how):
        return subprocess.run(
            [sys.executable, "-m", "scopekeeper", "policy", *words], env=environment,
            capture_output=True, text=True, timeout=60, cwd=tmp_path, **how,
        )  # fmt: skip

    return do


@pytest.mark.parametrize("name", presets.NAMES)
def test_what_it_prints_is_accepted_and_in_force_where_it_says(call, tmp_path, name):
    printed = call("preset", name)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout == presets.text(name, memory.total_bytes())
    checked = call("check", "-", input=printed.stdout)
    assert (checked.returncode, checked.stdout) == (0, "standard input: valid, 18 rules\n")
    path = tmp_path / "rules/config.toml"
    path.write_text(printed.stdout)
    checked = call("check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == "The policy is valid: 18 rules.\n"
    shown = call("show", "cron").stdout
    assert "member_memory_max (playwright)" in shown
    assert f"{path}:" in shown


def test_sizes_of_another_machine_can_be_asked_for(call):
    assert call("preset", "server", "--memory", "64G").stdout == presets.text("server", 64 * GIB)
    for words, what in {
        ("preset", "huge"): "unknown preset 'huge'; use small, workstation or server",
        ("preset", "server", "--memory", "x"): "--memory: 'x' is not a size",
        ("preset", "server", "--memory", "0"): "--memory: '0' is not a size",
        ("preset",): "Missing argument",
    }.items():
        done = call(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert what in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_policy_without_a_file_is_valid(call):
    done = call("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "The policy is valid: 0 rules.\n"


def test_a_wrong_policy_is_one_line(call, tmp_path):
    path = tmp_path / "rules/config.toml"
    path.write_text("[servers.x]\nttl = 5\n")
    done = call("check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"scopekeeper: {path}:2: ttl is no rule of a server; ")
    assert done.stderr.count("\n") == 1


def test_each_file_is_checked_and_a_wrong_one_is_one_line(call, tmp_path):
    (tmp_path / "good.toml").write_text('[lanes.main]\nttl = "1h"\n')
    (tmp_path / "bad.toml").write_text('[lanes.main]\ntlt = "1h"\n')
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    os.mkfifo(tmp_path / "pipe")
    done = call("check", "bad.toml", "latin.toml", "pipe", "none", ".", "good.toml")
    assert done.returncode == 1
    assert done.stdout == "good.toml: valid, 1 rule\n"
    lines = done.stderr.splitlines()
    assert [line.partition(".toml")[0].rpartition(" ")[2] for line in lines[:2]] == ["bad", "latin"]
    assert lines[0].endswith("bad.toml:2: unknown setting tlt; did you mean ttl?")
    assert lines[1].endswith("latin.toml: not UTF-8 (byte 2)")
    assert [line.split(": ", 1)[1] for line in lines[2:]] == [
        "pipe: it is a FIFO", "none: No such file or directory", ".: it is a directory",
    ]  # fmt: skip


def test_what_would_let_nothing_start_is_a_warning(call):
    text = '[lanes.main]\nmin_available = "8000T"\n[servers.x]\nmin_available = "1M"\n'
    done = call("check", "-", input=text)
    assert (done.returncode, done.stdout) == (0, "standard input: valid, 2 rules\n")
    (line,) = done.stderr.splitlines()
    assert "standard input:2: min_available is 8000T, but this machine has" in line
    assert line.endswith("no launch would start")


def test_what_is_not_ours_or_too_long_ends_in_one_line(call, tmp_path):
    done = call("check", "/dev/zero")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10 << 30)
    done = call("check", "large")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    done = call("check", "-", input="# \n" * (1 << 19))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("standard input: it has more than 1048576 bytes\n")
