"""A file is replaced whole, whatever waits beside it, and a failed write leaves no trace."""

import errno
import os
import resource
import signal
import stat

import pytest

from scopekeeper import whole_file


def test_a_file_is_replaced_with_its_mode_whatever_the_umask(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    mask = os.umask(0o077)
    try:
        whole_file.replace(path, b"new", mode=0o644)
        whole_file.replace(tmp_path / "private", b"new", durable=True)
    finally:
        os.umask(mask)
    assert path.read_bytes() == (tmp_path / "private").read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["file", "private"]


def test_a_reader_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        whole_file.replace(path, b"new")
        assert reader.read() == b"old"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("victim")
    whole_file.replace(tmp_path / "link", b"new")
    assert (tmp_path / "victim").read_bytes() == b"kept"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: os.symlink("victim", path), os.mkdir])
def test_what_waits_under_the_new_name_is_refused(tmp_path, monkeypatch, plant):
    monkeypatch.setattr(os, "urandom", bytes)
    plant(tmp_path / f"{whole_file.TEMPORARY}{'0' * 12}.tmp")
    (tmp_path / "victim").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        whole_file.replace(tmp_path / "file", b"new")
    assert (tmp_path / "victim").read_bytes() == b"kept"
    assert not (tmp_path / "file").exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            whole_file.replace(path, b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_in_an_opened_folder_is_finished_before_it_gets_its_name(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with whole_file.written(folder, b"new", finish=lambda fd: os.fchmod(fd, 0o640)) as new:
            assert os.path.basename(new) == new
            os.link(new, "file", src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["missing/file", "folder", "readable/file"])
def test_an_error_names_the_file_that_was_to_be_written(tmp_path, name, monkeypatch):
    for folder in ("folder", "readable"):
        (tmp_path / folder).mkdir()
    if name.startswith("readable"):  # as for a user who may only read it; root may write

        def refused(path, flags, *rest, **how):
            if flags & os.O_ACCMODE:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return really(path, flags, *rest, **how)

        really = os.open
        monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OSError, match=name) as raised:
        whole_file.replace(tmp_path / name, b"new")
    assert raised.value.filename == str(tmp_path / name)
