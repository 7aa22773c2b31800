"""`ls` on a tree that changes under it: before each look, something goes, comes, or is another."""

import os
import shutil
from pathlib import Path

import pytest

from scopekeeper.cli import ls_list
from scopekeeper.cli.list_view import ListOptions
from scopekeeper.kernel import proc
from scopekeeper.scope import names, records
from scopekeeper.scope.selection import Selector
from tests.vanishing import before_look

SLICE = "user.slice/user-1000.slice/user@1000.service/scopekeeper.slice"
STAYS = "stays:as-it-is"
FORMS = {"members": {"members": True}, "tree": {"tree": True}, "json": {"as_json": True}}


def scope(top: Path, session: str, *members: str) -> Path:
    """Make a scope in which this process seems to live, beside the records that it would have."""
    folder = top / SLICE / names.unit_name(session, "main")
    owner = {"OWNER_PID": str(os.getpid()), "OWNER_START": str(proc.start_time("self")),
             "BOOT": proc.boot_id(), "NAMESPACES": proc.namespaces()}  # fmt: skip
    for leaf in ("", *(names.leaf_name(each, "01234567") for each in members)):
        own = {"SESSION": session, "LANE": "main"}
        if leaf:
            own = {"NAME": leaf[2:-9], "PID": str(os.getpid()), "START": owner["OWNER_START"]}
        (folder / leaf).mkdir(parents=True, exist_ok=True)
        record = records.dumps({**own, "KIND": "mcp", "STARTED": "1", "BOOTTIME": "1", **owner})
        (folder / leaf / "record").write_bytes(record)
        (folder / leaf / "cgroup.procs").write_text(f"{os.getpid()}\n" if leaf else "")
        (folder / leaf / "cgroup.events").write_text("populated 1\nfrozen 0\n")
        (folder / leaf / "cpu.stat").write_text("usage_usec 7\n")
    return folder


def attribute(directory: str, _: str) -> bytes | None:
    """Return the record of a cgroup; here it is a file, since not every /tmp has attributes."""
    if not os.path.isdir(directory):
        raise FileNotFoundError(2, "No such file or directory")
    try:
        return Path(directory, "record").read_bytes()
    except FileNotFoundError:
        return None


class World:
    """A tree with two scopes, one of which stays."""

    def __init__(self, top: Path) -> None:
        self.top = top
        scope(top, STAYS, "server")
        self.goes = scope(top, "goes:away", "one", "two")
        self.leaf = self.goes / "m-one.01234567"

    def leaf_goes(self) -> None:
        shutil.rmtree(self.leaf)

    def scope_goes(self) -> None:
        shutil.rmtree(self.goes)

    def another_comes(self) -> None:
        self.scope_goes()
        scope(self.top, "goes:away", "three")

    def its_record_goes(self) -> None:
        (self.goes / "record").unlink()

    def its_record_is_garbage(self) -> None:
        (self.leaf / "record").write_bytes(b"V=1\n\xff\0")

    def it_is_closed(self) -> None:
        self.leaf.chmod(0)

    def one_more_comes(self) -> None:
        scope(self.top, "comes", "new")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", [each for each in vars(World) if each[0] != "_"])
def test_what_stays_is_listed_whatever_changes_before_any_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str,
    form: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(proc, "attribute", attribute)
    number, acted = 0, True
    while acted:
        number += 1
        top = tmp_path / str(number)
        world = World(top)
        monkeypatch.setattr(ls_list, "mount_point", lambda top=top: str(top))
        act = getattr(world, what)
        with before_look(str(top), number, act) as moment, pytest.raises(SystemExit) as ended:
            ls_list.show(Selector(), (), ListOptions(), **FORMS[form])
        acted = moment.acted
        assert ended.value.code == 0
        assert STAYS in capsys.readouterr().out, number
        if world.leaf.exists():
            world.leaf.chmod(0o755)
        shutil.rmtree(top)
    assert number > 10, "it was never changed"
