"""inotify: events come apart as the kernel put them together, and reach whom they concern."""

import contextlib
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.errors import LimitError
from scopekeeper.kernel import inotify
from scopekeeper.kernel.inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Event,
    Inotify,
    decode,
)
from tests.watching import watched_inodes

NAMES = st.binary(max_size=255).filter(lambda name: b"\0" not in name and b"/" not in name)
EVENTS = st.lists(st.tuples(st.integers(-1, 2**31 - 1), st.integers(0, 2**32 - 1), NAMES))


def written(wd, mask, name):
    """Write an event as the kernel does: the name ends in NULs up to a multiple of 16."""
    padded = name + b"\0" * (16 - len(name) % 16) if name else b""
    return struct.pack("iIII", wd, mask, 0, len(padded)) + padded


@given(EVENTS)
def test_events_come_back(events):
    raw = b"".join(written(*event) for event in events)
    assert decode(raw) == [Event(wd, mask, os.fsdecode(name)) for wd, mask, name in events]


@given(st.binary(max_size=200))
def test_no_bytes_at_all_do_worse_than_say_so(raw):
    with contextlib.suppress(ValueError):
        decode(raw)


@given(EVENTS.filter(bool), st.data())
def test_what_is_cut_short_never_passes_for_whole(events, data):
    raw = b"".join(written(*event) for event in events)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with contextlib.suppress(ValueError):
        assert len(decode(cut)) < len(events)


@pytest.fixture
def watches():
    """An inotify descriptor, with what it said beside events."""
    said = []
    it = Inotify(lambda: said.append("overflow"), said.append)
    it.said = said
    yield it
    it.close()


def test_each_is_told_what_it_asked_for(watches, tmp_path):
    created, all_of_it = [], []
    watches.add(str(tmp_path), IN_CREATE | IN_ONLYDIR, created.append)
    watches.add(str(tmp_path), IN_DELETE | IN_ATTRIB, all_of_it.append)
    assert len(watches) == 1, "one folder takes one watch of the kernel's"
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o700)
    (tmp_path / "a").rmdir()
    watches.dispatch()
    assert [(e.name, e.mask & 0xFFF) for e in created] == [("a", IN_CREATE)]
    assert [(e.name, e.mask & 0xFFF) for e in all_of_it] == [("a", IN_ATTRIB), ("a", IN_DELETE)]


def test_nothing_is_told_after_a_removal_not_even_what_is_queued(watches, tmp_path):
    told = []
    mine = watches.add(str(tmp_path), IN_CREATE, told.append)
    (tmp_path / "a").mkdir()
    watches.remove(mine)
    watches.remove(mine)
    watches.dispatch()
    assert told == []
    assert tmp_path.stat().st_ino not in watched_inodes()


def test_one_of_two_can_go(watches, tmp_path):
    told = []
    going = watches.add(str(tmp_path), IN_CREATE, lambda _: told.append("going"))
    watches.add(str(tmp_path), IN_CREATE, lambda _: told.append("staying"))
    watches.remove(going)
    (tmp_path / "a").mkdir()
    watches.dispatch()
    assert told == ["staying"]


def test_what_is_not_there_is_no_error(watches, tmp_path):
    assert watches.add(str(tmp_path / "absent"), IN_MODIFY, print) is None
    (tmp_path / "file").touch()
    assert watches.add(str(tmp_path / "file"), IN_CREATE | IN_ONLYDIR, print) is None


def test_a_watched_file_that_goes_leaves_no_watch(watches, tmp_path):
    path = tmp_path / "file"
    path.touch()
    watches.add(str(path), IN_MODIFY, print)
    path.unlink()
    watches.dispatch()
    assert len(watches) == 0


def test_lost_events_are_told_as_such(watches, tmp_path):
    watches.add(str(tmp_path), IN_CREATE | IN_DELETE, lambda _: None)
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        most = int(file.read())
    for _ in range(most // 2 + 10):
        (tmp_path / "a").mkdir()
        (tmp_path / "a").rmdir()
    while "overflow" not in watches.said:
        watches.dispatch()


@pytest.mark.parametrize("error", [LimitError("full", ""), ValueError("full")])
def test_one_that_fails_does_not_keep_the_others_from_being_told(watches, tmp_path, error):
    told = []

    def fail(_):
        raise error

    watches.add(str(tmp_path), IN_CREATE, fail)
    watches.add(str(tmp_path), IN_CREATE, told.append)
    (tmp_path / "a").mkdir()
    watches.dispatch()
    assert len(told) == 1
    assert [str(error) for error in watches.said] == ["full"]


def test_the_limit_is_named_with_the_command_that_raises_it(monkeypatch, watches, tmp_path):
    monkeypatch.setattr(inotify.ctypes, "get_errno", lambda: 28)
    monkeypatch.setattr(watches, "_libc", type("Full", (), {"inotify_add_watch": lambda *_: -1}))
    with pytest.raises(LimitError, match=r"sysctl fs.inotify.max_user_watches=\d+"):
        watches.add(str(tmp_path), IN_CREATE, print)


def test_an_overflow_is_of_no_watch():
    assert decode(written(-1, IN_Q_OVERFLOW, b"")) == [Event(-1, IN_Q_OVERFLOW, "")]
