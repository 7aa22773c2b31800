"""A launch is let in if the machine has the memory that its rules demand, or cannot be read."""

import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from scopekeeper.errors import ShortageError
from scopekeeper.kernel import memory
from scopekeeper.launch import gate, run
from scopekeeper.policy.rules import Policy

GIB = 1 << 30
NOWHERE = SimpleNamespace(mount="/nonexistent", uid=1)


class Machine:
    """Files in the form of /proc/meminfo and /proc/pressure/memory."""

    def __init__(self, folder):
        self.meminfo, self.psi = folder / "meminfo", folder / "psi"

    def has(self, available):
        text = f"MemTotal:       16000000 kB\nMemFree: 5 kB\nMemAvailable:   {available >> 10} kB\n"
        new = self.meminfo.with_name("new")
        new.write_text(text)
        new.rename(self.meminfo)

    def waits(self, percent):
        self.psi.write_text(
            f"some avg10={percent:.2f} avg60=1.00 avg300=0.50 total=12\n"
            "full avg10=99.00 avg60=0.00 avg300=0.00 total=0\n"
        )


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path)
    monkeypatch.setattr(memory, "MEMORY", str(made.meminfo))
    monkeypatch.setattr(memory, "PRESSURE", str(made.psi))
    return made


def request(**rules):
    return SimpleNamespace(gate=rules, name="time", lane="cron:x")


def test_this_machine_is_read_as_others_read_it():
    other = psutil.virtual_memory()
    assert memory.total_bytes() == other.total
    assert 0 < memory.available_bytes() <= other.total
    waiting = memory.waiting_percent()
    assert waiting is None or 0 <= waiting <= 100


def test_what_is_available_counts_to_the_byte(machine):
    machine.has(2 * GIB)
    assert gate.shortage({"min_available": str(2 * GIB)}) == ""
    assert gate.shortage({"min_available": str(2 * GIB + 1)}) == (
        "2.0G is available, min_available is 2.0G"
    )
    assert gate.shortage({"max_pressure": "0"}) == "", "nothing waits, as far as is known"


def test_the_share_in_which_some_process_waited_counts(machine):
    machine.has(GIB)
    machine.waits(20.4)
    assert gate.shortage({"max_pressure": "21"}) == ""
    rules = {"max_pressure": "20", "min_available": str(GIB)}
    assert gate.shortage(rules) == (
        "processes waited for memory 20% of the time, max_pressure is 20"
    )
    machine.waits(0)
    assert gate.shortage(rules) == ""


@pytest.mark.parametrize("text", [None, "", "MemAvailable: much kB\n", "MemAvailable:\n", "\0",
                                  "MemAvailable: \u0663 kB\n"])  # fmt: skip
def test_a_machine_that_cannot_be_read_lets_it_through(machine, text):
    if text is not None:
        machine.meminfo.write_text(text)
        machine.psi.write_text(text.replace("MemAvailable: ", "some avg10="))
    assert gate.shortage({"min_available": str(1 << 60), "max_pressure": "0"}) == ""


def test_it_is_refused_at_once_in_one_line(machine):
    machine.has(GIB)
    lines = []
    with pytest.raises(ShortageError) as raised:
        gate.pass_gate(request(min_available=str(2 * GIB)), NOWHERE, lines.append)
    assert str(raised.value) == (
        "the machine is short of memory for time in the lane cron: 1.0G is available, "
        "min_available is 2.0G; scopekeeper ls shows what runs"
    )
    assert not lines


def test_it_waits_reports_that_once_and_goes_on_when_there_is_enough(machine):
    machine.has(GIB)
    lines = []

    def say(line):
        lines.append(line)
        threading.Timer(0.6, machine.has, (3 * GIB,)).start()

    rules = {"min_available": str(2 * GIB), "when_short": "wait", "wait_most": "60000000us"}
    gate.pass_gate(request(**rules), NOWHERE, say)
    assert lines == ["waiting for memory, at most 1m: 1.0G is available, min_available is 2.0G"]
    assert memory.available_bytes() == 3 * GIB


def test_it_waits_for_as_long_as_is_built_in_unless_a_rule_says(machine, monkeypatch):
    machine.has(GIB)
    lines, slept = [], []
    clock = [100.0]

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    with pytest.raises(ShortageError, match=r"min_available is 2\.0G, also after 8\.0s"):
        gate.pass_gate(
            request(min_available=str(2 * GIB), when_short="wait"), NOWHERE, lines.append
        )
    assert len(lines) == 1
    assert Policy().rules("main").wait_most == gate._MOST_USEC
    assert sum(slept) == pytest.approx(8, abs=0.3)


def test_a_wait_of_no_time_is_a_refusal(machine):
    machine.has(GIB)
    began = time.monotonic()
    rules = {"min_available": str(2 * GIB), "when_short": "wait", "wait_most": "0us"}
    with pytest.raises(ShortageError):
        gate.pass_gate(request(**rules), NOWHERE, lambda _: None)
    assert time.monotonic() - began < 10


def test_names_of_any_length_are_short(machine):
    machine.has(GIB)
    asked = request(min_available=str(2 * GIB))
    asked.name = "n" * 255
    with pytest.raises(ShortageError) as raised:
        gate.pass_gate(asked, NOWHERE, print)
    assert len(str(raised.value)) < 250


def test_a_refusal_comes_after_the_warnings_of_the_launch(machine, monkeypatch):
    """As of a file of rules that is invalid: what refuses is an earlier content of it."""
    machine.has(GIB)

    def plan(options, command, environment, caller, warnings):
        warnings.append("config.toml:1: it is invalid")
        return request(min_available=str(2 * GIB)), None, NOWHERE

    monkeypatch.setattr(run, "plan", plan)
    lines = []
    with pytest.raises(ShortageError):
        run.contain({}, "time", {}, {}, NOWHERE, lines.append)
    assert lines == ["config.toml:1: it is invalid"]
