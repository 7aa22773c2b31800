"""``install`` with a manager that refuses; its answers are played."""

import os
import subprocess

import pytest

from scopekeeper.errors import ConfigError, ManagerError, UnavailableError
from scopekeeper.install import files, locations
from scopekeeper.install.install import install
from scopekeeper.systemd import calls
from scopekeeper.systemd.systemctl import Systemctl

PROGRAM = "/usr/bin/scopekeeper"
SYSTEMCTL = ["systemctl", "--user"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home on a machine that systemd has booted."""
    real = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/run/systemd/system" or real(path))
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    return home


@pytest.fixture
def where(home):
    return locations.find("user", {"HOME": str(home)})


@pytest.fixture
def manager(fp, where, monkeypatch):
    """A manager with nothing enabled that reads the folder of the user's units."""
    fp.keep_last_process(True)
    monkeypatch.setattr(calls, "unit_folders", lambda kind: {"user": [where.units]}[kind])
    monkeypatch.setattr(calls, "unit_files", lambda _kind, unit: {unit: "disabled"})
    monkeypatch.setattr(calls, "unit_property", lambda *_: "inactive")
    return Systemctl("user", where.units)


def obey(fp):
    """Play a manager and a bus that do what they are told, but for what was played before."""
    for verb in ("daemon-reload", "enable", "start", "disable"):
        fp.register([*SYSTEMCTL, verb, fp.any(min=1)])
    fp.register([*SYSTEMCTL, "daemon-reload"])
    fp.register(["busctl", fp.any()])


def tree(home):
    return sorted(home.rglob("*"))


def told(fp):
    """Return the verbs that systemctl was called with."""
    return [call[2] for call in fp.calls if list(call[:2]) == SYSTEMCTL]


@pytest.mark.parametrize("verb", ["daemon-reload", "enable", "start"])
def test_nothing_is_left_where_the_manager_refuses_one_of_the_steps(fp, where, manager, home, verb):
    before = tree(home)
    fp.register([*SYSTEMCTL, verb, fp.any()], returncode=1, stderr="Access denied\n")
    obey(fp)
    with pytest.raises(ManagerError, match=f"`systemctl --user {verb}.*` failed: Access denied"):
        install(manager, where, PROGRAM, {})
    assert tree(home) == before
    steps = ["daemon-reload", "enable", "start"]
    done = steps[: steps.index(verb) + 1]
    assert told(fp) == [*done, "disable", "daemon-reload"], "it has to forget what it has read"


def test_a_bus_that_is_not_there_is_a_warning(fp, where, manager, home):
    fp.register(["busctl", fp.any()], returncode=1, stderr="Failed to connect to bus\n")
    obey(fp)
    change = install(manager, where, PROGRAM, {})
    assert [each for each in change.warnings if "Failed to connect to bus" in each]
    assert (home / ".config/systemd/user/scopekeeper.service").exists()


def test_a_manager_that_hangs_is_told_of(fp, where, manager, home):
    def hang(process):
        raise subprocess.TimeoutExpired(process.args, 90)

    before = tree(home)
    fp.register([*SYSTEMCTL, "start", fp.any()], callback=hang)
    obey(fp)
    with pytest.raises(ManagerError, match="did not end in 90 s"):
        install(manager, where, PROGRAM, {})
    assert tree(home) == before


def test_a_manager_that_does_not_answer_or_has_another_home_is_refused(home, where, monkeypatch):
    assert home
    monkeypatch.setattr("os.getuid", lambda: 4294967294)  # nobody's: no manager listens there
    with pytest.raises(UnavailableError, match=r"No such file or directory.*doctor"):
        Systemctl("user", where.units)
    others = ["/home/other/.config/systemd/user", "/etc/systemd/user"]
    monkeypatch.setattr(calls, "unit_folders", lambda _: others)
    with pytest.raises(ConfigError, match="does not read"):
        Systemctl("user", where.units)


def test_what_a_killed_install_has_left_goes_with_the_next(fp, where, manager, home):
    obey(fp)
    os.makedirs(where.units)
    left = [".scopekeeper-0123456789ab.tmp", ".scopekeeper-ba9876543210.tmp"]
    for name in left:
        (home / ".config/systemd/user" / name).write_text("half of a unit")
    (home / ".config/systemd/user/mine.tmp").write_text("mine")
    install(manager, where, PROGRAM, {})
    there = os.listdir(where.units)
    assert "scopekeeper.service" in there
    assert "mine.tmp" in there
    assert [name for name in there if name in left] == []


def test_a_link_that_a_killed_install_has_left_goes(tmp_path):
    (tmp_path / ".scopekeeper-bash").symlink_to("gone")
    undo = files.link(f"{tmp_path}/bash", "scopekeeper-shell")
    assert os.listdir(tmp_path) == ["bash"]
    undo()
    (tmp_path / "bash").symlink_to("scopekeeper-shell")
    (tmp_path / ".scopekeeper-bash").symlink_to("gone")
    files.take(f"{tmp_path}/bash")
    assert os.listdir(tmp_path) == []
