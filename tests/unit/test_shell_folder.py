"""The folder with a bash of ours: what is made, kept and removed; without a systemd."""

import os
import pwd
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from scopekeeper.errors import ConfigError
from scopekeeper.install import apply, files, locations, shell_folder
from scopekeeper.install.plan import FileStep


@pytest.fixture
def home(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/scopekeeper-shell").touch(mode=0o755)
    return tmp_path


def places_of(home, **more):
    return locations.find("user", {"HOME": str(home), **more})


def plan(home, *, wanted=True, **more):
    return shell_folder.install(places_of(home, **more), f"{home}/bin/scopekeeper", wanted=wanted)


def do(actions):
    with ExitStack() as backwards:
        apply.write(actions, backwards)
        backwards.pop_all()
    apply.prune(actions)


def steps(actions):
    return [each.step for each in actions]


def test_it_is_made_only_if_wanted_and_removed_with_its_folders(home):
    assert plan(home, wanted=False) == []
    do(plan(home))
    link = home / ".local/share/scopekeeper/shells/bash"
    assert os.readlink(link) == f"{home}/bin/scopekeeper-shell"
    assert steps(plan(home)) == steps(plan(home, wanted=False)) == [FileStep.NOTHING]
    do(shell_folder.uninstall(places_of(home)))
    assert sorted(os.listdir(home)) == ["bin"]
    assert shell_folder.uninstall(places_of(home)) == []


def test_a_link_of_an_earlier_installation_is_brought_up_to_date(home):
    link = home / ".local/share/scopekeeper/shells/bash"
    link.parent.mkdir(parents=True)
    link.symlink_to("/opt/gone/scopekeeper-shell")
    assert steps(plan(home, wanted=False)) == [FileStep.WRITE]
    do(plan(home, wanted=False))
    assert os.readlink(link) == f"{home}/bin/scopekeeper-shell"


@pytest.mark.parametrize("what", ["file", "link", "dangling"])
def test_what_somebody_else_made_stays(home, what):
    link = home / ".local/share/scopekeeper/shells/bash"
    link.parent.mkdir(parents=True)
    if what == "file":
        link.write_text("theirs")
    else:
        link.symlink_to("/bin/bash" if what == "link" else "/nowhere/bash")
    assert steps(plan(home)) == [FileStep.KEEP]
    assert shell_folder.uninstall(places_of(home)) == []
    assert os.path.lexists(link)


def test_a_failure_later_on_restores_what_was_there(home):
    link = home / ".local/share/scopekeeper/shells/bash"
    link.parent.mkdir(parents=True)
    link.symlink_to("/opt/gone/scopekeeper-shell")
    undo = files.link(str(link), "/new")
    assert os.readlink(link) == "/new"
    undo()
    assert os.readlink(link) == "/opt/gone/scopekeeper-shell"
    assert os.listdir(link.parent) == ["bash"]
    files.link(f"{home}/a/b/c", "/new")()
    assert not (home / "a").exists()


def test_without_the_shell_beside_the_program_nothing_is_made(home):
    (home / "bin/scopekeeper-shell").unlink()
    with pytest.raises(ConfigError, match=r"there is no .*/bin/scopekeeper-shell"):
        plan(home)


def test_a_login_shell_is_not_removed(home, monkeypatch):
    """Its user could not log in any more."""
    do(plan(home))
    link = f"{home}/.local/share/scopekeeper/shells/bash"
    users = [SimpleNamespace(pw_name="ann", pw_shell=link), *pwd.getpwall()]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    (action,) = shell_folder.uninstall(places_of(home))
    assert action.step is FileStep.KEEP
    assert action.why == "it is the login shell of ann; first: usermod --shell /bin/bash ann"


def test_the_folder_follows_xdg_and_that_of_root_is_no_share(home):
    assert places_of(home, XDG_DATA_HOME="/data").shells == "/data/scopekeeper/shells"
    do(plan(home, XDG_DATA_HOME=f"{home}/data"))
    do(shell_folder.uninstall(places_of(home, XDG_DATA_HOME=f"{home}/data")))
    assert sorted(os.listdir(home)) == ["bin"]
    assert locations.find("system", {}).shells == "/usr/local/lib/scopekeeper/shells"


def test_each_client_is_pointed_to_it(home):
    places = places_of(home)
    known = dict(shell_folder.pointers(places))
    assert set(known) == {"Claude Code", "Codex CLI", "Gemini CLI", "hermes-agent"}
    assert all(places.shells in what for what in known.values())
    assert f'"CLAUDE_CODE_SHELL": "{places.shells}/bash"' in known["Claude Code"]
