"""What ``install`` decides to write and to keep, and how it writes; without a systemd."""

import errno
import gzip
import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from scopekeeper.errors import RefusedError, UsageError
from scopekeeper.install import files, locations, origin, plan, shipped
from scopekeeper.install.gateway_drop_in import existing_drop_ins, gateway_unit
from scopekeeper.install.install import refuse_writable
from scopekeeper.install.origin import Origin
from scopekeeper.install.plan import FileStep

UNITS = Path(__file__).parents[2] / "units"
PROGRAM = "/opt/scope keeper/50%/scopekeeper"
UNIT = locations.Piece("x.service", "[Service]\nExecStart=/a/scopekeeper keeper\n", "/etc/units",
                    "/etc/units", ("/usr/units",))  # fmt: skip
PAGE = locations.Piece("man/man1/x.1", ".TH X\n", "/l", "/l", ("/usr/share",), is_document=True)


def step(piece, there):
    """Return what install does with a piece where these files are there, by path."""
    (action,) = plan.install([piece], there.get)
    return action.step


def test_every_unit_that_is_shipped_has_a_place():
    """A new one that nobody installs would be a file for nothing."""
    there = {str(path.relative_to(UNITS)) for path in UNITS.rglob("*") if path.is_file()}
    pieces = {f"system/{name}" for name in shipped.SYSTEM_UNITS} | set(shipped.UNITS)
    drop_ins = {"gateway.service.d/10-scopekeeper.conf"}
    drop_ins |= {"openclaw-gateway.service.d/10-scopekeeper.conf"}
    assert there == pieces | drop_ins | {shipped.BUS_SERVICE, shipped.BUS_POLICY}
    kept = locations.pieces(locations.find("system", {}), PROGRAM, {})
    names = {piece.name for piece in kept} - {shipped.BUS_SERVICE, shipped.BUS_POLICY}
    assert names == {name.removeprefix("system/") for name in pieces}


def test_the_program_stands_in_a_unit_with_its_whole_path_and_can_be_told_from_it():
    for name in (*shipped.UNITS, "gateway.service.d/10-scopekeeper.conf"):
        text = shipped.read(name)
        written = shipped.for_program(text, PROGRAM)
        calls = re.findall(r"(?m)^Exec\w+=-?(.*scopekeeper\S*)", written)
        assert all(call.startswith('"/opt/scope keeper/50%%/scopekeeper"') for call in calls), name
        assert shipped.for_any(written) == shipped.for_any(text) == text
    assert shipped.names_shell(shipped.drop_in(PROGRAM, shell=True))
    assert '"/opt/scope keeper/50%%/scopekeeper-shell"' in shipped.drop_in(PROGRAM, shell=True)
    assert not shipped.names_shell(shipped.drop_in(PROGRAM, shell=False))


@pytest.mark.parametrize(("name", "first"), [
    ("x.service", b"# scopekeeper install"),
    ("org.x.conf", b"<!-- scopekeeper install"),
    ("man/man1/x.1", b"<"),
    ("zsh/site-functions/_x", b"<"),
])  # fmt: skip
def test_a_mark_is_a_comment_and_knows_an_edit(name, first):
    raw = origin.marked("<text\nof it>\n", name)
    assert raw.startswith(first)
    assert raw.count(b"\n") == 3
    assert origin.origin(raw) is Origin.OURS
    assert origin.origin(raw.replace(b"of", b"in")) is Origin.EDITED
    assert origin.origin(raw + b"more\n") is not Origin.OURS
    assert origin.origin(b"<text\nof it>\n") is Origin.FOREIGN


def test_only_what_is_missing_or_ours_is_written():
    ours = origin.marked(UNIT.text, UNIT.path)
    older = origin.marked("[Service]\n", UNIT.path)
    by_hand = UNIT.text.replace("/a/", "/home/me/bin/").encode()
    for raw, expected in (
        (None, FileStep.WRITE),
        (ours, FileStep.NOTHING),
        (older, FileStep.WRITE),
        (by_hand, FileStep.WRITE),
        (ours + b"Nice=5\n", FileStep.KEEP),
        (b"[Service]\n", FileStep.KEEP),
        (b"", FileStep.KEEP),
    ):
        there = {} if raw is None else {UNIT.path: raw}
        assert step(UNIT, there) is expected, raw
        (action,) = plan.uninstall([UNIT], there.get)
        removed = expected is not FileStep.KEEP and raw is not None
        assert (action.step is FileStep.REMOVE) is removed, raw


def test_what_a_package_has_is_not_written_beside_it():
    packaged = {"/usr/units/x.service": UNIT.text.replace("/a/", "/usr/bin/").encode()}
    assert step(UNIT, packaged) is FileStep.NOTHING
    assert (
        step(UNIT, packaged | {UNIT.path: origin.marked(UNIT.text, UNIT.path)}) is FileStep.REMOVE
    )
    assert step(UNIT, packaged | {UNIT.path: b"mine"}) is FileStep.KEEP
    assert step(UNIT, {"/usr/units/x.service": b"another version"}) is FileStep.WRITE
    page = PAGE.text.encode()
    assert step(PAGE, {"/usr/share/man/man1/x.1": page}) is FileStep.NOTHING
    assert step(PAGE, {"/usr/share/man/man1/x.1.gz": gzip.compress(page)}) is FileStep.NOTHING
    assert step(PAGE, {"/usr/share/man/man1/x.1.gz": b"broken"}) is FileStep.WRITE
    assert step(PAGE, {PAGE.path: page}) is FileStep.NOTHING
    zsh = locations.Piece(
        "zsh/site-functions/_x", "#compdef x\n", "/l", "/l", ("/usr/share",), is_document=True
    )
    of_another_click = {"/usr/share/zsh/vendor-completions/_x": b"#compdef x\n# more\n"}
    assert step(zsh, of_another_click) is FileStep.NOTHING
    (action,) = plan.uninstall([PAGE], {PAGE.path: page}.get)
    assert action.step is FileStep.NOTHING, "pip put it there, and pip removes it"


def test_only_folders_that_were_made_here_are_removed(tmp_path):
    theirs = tmp_path / "config/systemd"
    theirs.mkdir(parents=True)
    for name in ("config/systemd/user/a.service", "config/other/b", "config/systemd/c"):
        files.put(str(tmp_path / name), b"new")
        (tmp_path / name).unlink()
        files.prune(os.path.dirname(tmp_path / name), str(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "config"] == [theirs]


def test_where_folders_have_no_attributes_empty_ones_are_removed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "not here")

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)
    files.put(str(tmp_path / "a/b/c"), b"new")
    (tmp_path / "a/b/c").unlink()
    files.prune(str(tmp_path / "a/b"), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_can_be_read_by_all_and_undone_with_its_folders(tmp_path):
    (tmp_path / "old").write_bytes(b"before")
    (tmp_path / "old").chmod(0o600)
    (tmp_path / "link").symlink_to("/dev/null")
    before = {path: path.lstat().st_mode for path in tmp_path.rglob("*")}
    mask = os.umask(0o077)
    try:
        undo = [files.put(str(tmp_path / name), b"new") for name in ("a/b/c", "old", "link")]
    finally:
        os.umask(mask)
    for name, mode in (("a", 0o755), ("a/b", 0o755), ("a/b/c", 0o644), ("old", 0o644)):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode, name
    assert (tmp_path / "link").read_bytes() == (tmp_path / "a/b/c").read_bytes() == b"new"
    undo.append(files.take(str(tmp_path / "old")))
    for each in reversed(undo):
        each()
    assert {path: path.lstat().st_mode for path in tmp_path.rglob("*")} == before
    assert (tmp_path / "old").read_bytes() == b"before"
    assert os.readlink(tmp_path / "link") == "/dev/null"
    (tmp_path / "old").chmod(0o644)
    with pytest.raises(FileExistsError):
        files.put(str(tmp_path / "old" / "x"), b"new")
    with pytest.raises(OSError, match="name too long"):
        files.put(str(tmp_path / "a/b" / ("x" * 300)), b"new")
    assert {path.name for path in tmp_path.rglob("*")} == {"old", "link"}


LAUNCHERS = """
import sys
from pathlib import Path
from scopekeeper.install import pip_scripts
mine = Path(sys.prefix, "bin/scopekeeper")
assert pip_scripts.slow("/usr/bin/scopekeeper") is None
assert pip_scripts.slow(str(mine)) == mine
assert pip_scripts.make_fast(mine) == ""
assert pip_scripts.slow(str(mine)) is None
"""


def test_a_launcher_that_pip_wrote_into_an_environment_of_ours_is_made_fast(tmp_path):
    """In a copy, so that no other installation is touched."""
    venv.create(tmp_path, symlinks=True)
    program, python = tmp_path / "bin/scopekeeper", tmp_path / "bin/python"
    shutil.copytree(UNITS.parent / "scopekeeper", tmp_path / "package/scopekeeper")
    program.write_text(f"#!{python}\nfrom scopekeeper.main import main\nmain()\n")
    program.chmod(0o755)
    environment = {"PYTHONPATH": str(tmp_path / "package"), "PATH": os.defpath}
    ran = subprocess.run([python, "-c", LAUNCHERS], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert program.read_text().startswith(f"#!{python} -IS\n")
    ran = subprocess.run([program, "run", "--", "/nonexistent"], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (127, "scopekeeper: /nonexistent: not found\n")


@pytest.mark.root
def test_what_others_can_change_is_no_program_for_a_service_of_root(tmp_path):
    program = tmp_path / "bin" / "scopekeeper"
    program.parent.mkdir()
    program.write_text("")
    link = tmp_path / "scopekeeper"
    link.symlink_to(program)
    os.chown(program.parent, 12345, 0)
    with pytest.raises(RefusedError, match=r"12345 can change .*/bin,"):
        refuse_writable(str(link))
    os.chown(program.parent, 0, 0)
    program.chmod(0o757)
    with pytest.raises(RefusedError, match=r"others than root can change .*/bin/scopekeeper,"):
        refuse_writable(str(link))


@pytest.mark.parametrize("name", ["../x", "x.socket", "scopekeeper.service", "a\nb.service",
                                  "openclaw-gateway.service", "openclaw-gateway-work"])  # fmt: skip
def test_what_is_no_gateway_of_ours_to_change_is_refused(name):
    with pytest.raises(UsageError):
        gateway_unit(name)
    assert gateway_unit("my-gateway") == gateway_unit("my-gateway.service") == "my-gateway.service"


def test_the_drop_ins_of_openclaw_are_not_those_of_gateways(tmp_path):
    """They have the same name and mark, and another text; `openclaw uninstall` removes them."""
    folders = locations.Locations("user", str(tmp_path), str(tmp_path), str(tmp_path))
    for unit in ("openclaw-gateway.service", "openclaw-gateway-work.service", "mine.service"):
        path = Path(folders.drop_in(unit))
        path.parent.mkdir()
        path.write_bytes(origin.marked(shipped.drop_in(PROGRAM, shell=True), path.name))
    assert [unit for unit, _ in existing_drop_ins(folders)] == ["mine.service"]
