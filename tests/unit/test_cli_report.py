"""`scopekeeper report`: what it writes, and what it leaves alone."""

import json
import os
import re
import stat
import subprocess
import sys
import time

import pytest

from scopekeeper.history.store import HistoryStore
from tests.browser.days import ends
from tests.unit.ends import an_end
from tests.unit.strange import put

SECRET = "hunter2"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder; the history is in another one."""
    folder = tmp_path / "here"
    folder.mkdir()
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(state))
    return folder


def write(tmp_path, found):
    HistoryStore(tmp_path / "state").write(found)


def report(*arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "scopekeeper", "report", *arguments], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == status, (done.stdout[:500], done.stderr)
    return done


def refused(*arguments, status=2):
    done = report(*arguments, status=status)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "internal" not in done.stderr
    return done.stderr


def rows_of(text):
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    found = json.loads(data[1])["rows"] if data else []
    # scopes of this machine that run are not the test's
    return [[c if isinstance(c, str) else c[0] for c in row] for row in found
            if row[0][0] != "running"]  # fmt: skip


def test_it_writes_what_the_history_has_for_this_user_alone(place, tmp_path):
    write(tmp_path, ends(30))
    done = report("day.html")
    assert re.fullmatch(
        rf"wrote {place}/day\.html \([^)]+\): 30 ends, \d+ scopes? that runs?\n", done.stdout
    )
    found = place / "day.html"
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    assert len(rows_of(found.read_text())) == 30
    assert list(place.iterdir()) == [found]


def test_arguments_of_commands_are_there_only_if_asked_for(place, tmp_path):
    write(tmp_path, ends(30))
    report("without.html")
    assert SECRET not in (place / "without.html").read_text()
    report("--commands", "with.html")
    assert SECRET in (place / "with.html").read_text()


def test_since_narrows_it_down(place, tmp_path):
    now = time.time_ns() // 1000
    write(tmp_path, [an_end(f"{at:08x}", ended=now - at * 3_600_000_000) for at in range(5)])
    assert len(rows_of(report("-").stdout)) == 5
    assert len(rows_of(report("--since", "150m", "-").stdout)) == 3
    for wrong in ("soon", "@nan", "@inf"):
        assert "--since" in refused("--since", wrong, "-")


def test_it_prints_what_it_would_write(place, tmp_path):
    write(tmp_path, ends(5))
    report("day.html", "--since", "@1")
    printed = report("-", "--since", "@1").stdout
    assert rows_of(printed) == rows_of((place / "day.html").read_text())
    assert printed.startswith("<!doctype html>")
    assert printed.endswith("</html>\n")


def test_a_page_is_replaced_and_keeps_its_permissions(place, tmp_path):
    report("day.html")
    (place / "day.html").chmod(0o644)
    before = (place / "day.html").stat().st_ino
    write(tmp_path, ends(5))
    report("day.html")
    found = place / "day.html"
    assert stat.S_IMODE(found.stat().st_mode) == 0o644
    assert found.stat().st_ino != before, "a reader of the old one sees the old one to its end"
    assert len(rows_of(found.read_text())) == 5
    (place / "day.html").chmod(0o4777)
    report("day.html")
    assert stat.S_IMODE(found.stat().st_mode) == 0o666


def test_another_file_stays_unless_forced(place):
    other = place / "thesis.html"
    other.write_text("<!doctype html>\n<html lang='en'>years of work")
    assert "thesis.html exists, and is no page of `scopekeeper report`" in refused("thesis.html")
    assert "years of work" in other.read_text()
    report("--force", "thesis.html")
    assert "years of work" not in other.read_text()


def test_an_empty_file_is_filled(place):
    (place / "new.html").touch()
    report("new.html")
    assert (place / "new.html").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "loose", "device", "socket"])
def test_what_is_no_file_stays_even_if_forced(place, kind):
    put(place / "day.html", kind)
    before = (place / "day.html").lstat()
    assert "day.html is no regular file" in refused("--force", "day.html")
    assert (place / "day.html").lstat() == before


def test_where_it_cannot_write_it_says_so_and_leaves_nothing(place):
    assert "cannot write gone/day.html: No such file or directory" in refused(
        "gone/day.html", status=1
    )
    assert "FILE is empty" in refused("")
    assert refused()
    assert not list(place.iterdir())


def test_a_damaged_history_ends_it_and_the_old_page_stays(place, tmp_path):
    write(tmp_path, ends(5))
    report("day.html")
    before = (place / "day.html").read_bytes()
    (tmp_path / "state/history.db").write_bytes(b"no database" * 1000)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"state/history.db{suffix}").unlink(missing_ok=True)
    assert "the history is damaged" in refused("day.html", status=1)
    assert (place / "day.html").read_bytes() == before


def test_a_reader_who_goes_away_ends_it_quietly(place, tmp_path):
    write(tmp_path, ends(300))
    line = f"{sys.executable} -m scopekeeper report - | head -c 10; echo $PIPESTATUS"
    done = subprocess.run(
        ["bash", "-c", line],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "<!doctype 141\n"


def test_all_users_is_for_root(place):
    if os.geteuid():
        assert "only root" in refused("--all-users", "-", status=1)


def test_without_cgroup2_it_has_the_history(place, tmp_path, monkeypatch):
    from scopekeeper.cli import report as command

    def none():
        raise LookupError("no cgroup2 hierarchy is mounted")

    write(tmp_path, ends(5))
    monkeypatch.setattr(command, "mount_point", none)
    made = command._made(0, all_users=False, commands=False)
    assert len(made.lives) == 5
    assert made.notes == ("what runs now could not be read: no cgroup2 hierarchy is mounted",)


def test_ten_thousand_ends_make_a_page_of_a_few_megabytes(place, tmp_path):
    write(tmp_path, ends(10_000))
    report("day.html")
    text = (place / "day.html").read_text()
    assert len(rows_of(text)) == 10_000
    assert len(text) < 4_000_000
    assert text.count("<rect") < 10_000


def test_json_has_what_the_page_is_made_of(place, tmp_path):
    write(tmp_path, ends(7))
    found = json.loads(report("--json").stdout)
    assert found["version"] == 1
    lives = [each for each in found["lives"] if each["ended"] is not None]
    assert [(x["session"], x["member"]) for x in reversed(lives)] == [
        (row[1], row[3]) for row in rows_of(report("-").stdout)
    ]
    assert SECRET not in report("--json").stdout
    assert SECRET in report("--json", "--commands").stdout
    assert "exclude each other" in refused("--json", "x.html")
    assert "FILE is missing" in refused()
    assert not list(place.iterdir())
