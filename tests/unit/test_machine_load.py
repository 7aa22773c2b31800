"""How busy the machine is: what procfs has, and what is unknown where it has not."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.kernel import machine_load
from scopekeeper.kernel.machine_load import MachineLoad

FILES = {
    "/proc/loadavg": "0.52 0.48 0.40 2/371 24510\n",
    "/proc/stat": "cpu  100 20 30 800 50 4 6 0 10 0\ncpu0 1 1 1 1\n",
    "/proc/meminfo": "MemTotal:       16000 kB\nMemFree: 1 kB\nMemAvailable:   6000 kB\n"
                     "SwapTotal:  200 kB\nSwapFree:   150 kB\nHugePages_Total:  0\n",
    "/proc/pressure/cpu": "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\n",
    "/proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=9.0\n",
}  # fmt: skip


def read(monkeypatch, files):
    def text(path):
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    monkeypatch.setattr(machine_load.proc, "read", text)
    return machine_load.read()


def test_what_procfs_has(monkeypatch):
    found = read(monkeypatch, FILES)
    assert found.load == (0.52, 0.48, 0.4)
    assert found.cpu_ticks == (160, 1010)
    assert (found.memory, found.swap) == ((6000 << 10, 16000 << 10), (150 << 10, 200 << 10))
    assert found.pressure == {"cpu": 1.5, "memory": 0.0}


def test_where_procfs_is_hidden_it_is_unknown(monkeypatch):
    found = read(monkeypatch, {})
    assert (found.load, found.cpu_ticks, found.memory, found.swap) == (None,) * 4
    assert found.pressure == {}
    assert found.cpu_since(found) is None


@pytest.mark.parametrize(
    ("then", "now", "percent"),
    [((0, 0), (50, 100), 50.0), ((10, 100), (10, 100), None), ((90, 100), (80, 200), 0.0),
     (None, (1, 2), None)],
)  # fmt: skip
def test_the_work_of_all_cpus_between_two_moments(then, now, percent):
    assert MachineLoad(cpu_ticks=now).cpu_since(MachineLoad(cpu_ticks=then)) == percent


@given(st.text(max_size=200))
def test_whatever_is_in_a_file_it_is_a_number_or_unknown(text):
    with pytest.MonkeyPatch.context() as patch:
        read(patch, dict.fromkeys([*FILES, "/proc/pressure/io"], text))


def test_on_this_machine_it_can_be_read():
    found = machine_load.read()
    assert found.cpus == os.cpu_count()
    assert found.memory is not None
    assert 0 < found.memory[0] < found.memory[1]
    assert found.uptime > 0
