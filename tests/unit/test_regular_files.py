"""What is not a regular file of this user is named, and is not waited for."""

import os
import socket

import pytest

from scopekeeper import regular_files

HUGE = 10 << 30


@pytest.fixture
def strange(tmp_path):
    """Make files that are none of ours; return each with the words that name it."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_bytes(b"plain")
    (tmp_path / "link").symlink_to("plain")
    (tmp_path / "loose").symlink_to("nowhere")
    (tmp_path / "device").symlink_to("/dev/zero")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(HUGE)
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(tmp_path, os.O_PATH)
        listening.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    told = {
        "fifo": "a FIFO", "folder": "a directory", "link": "a symbolic link",
        "loose": "a symbolic link", "device": "a symbolic link", "huge": "bytes",
        "socket": "a socket",
    }  # fmt: skip
    if os.geteuid() == 0:
        (tmp_path / "another's").write_bytes(b"")
        os.chown(tmp_path / "another's", 1, 1)
        os.mknod(tmp_path / "zero", 0o020600, os.makedev(1, 5))
        told |= {"another's": "uid 1", "zero": "a device"}
    return {tmp_path / name: words for name, words in told.items()}


def test_what_is_strange_is_named_and_not_waited_for(strange):
    for path, words in strange.items():
        with pytest.raises(OSError, match=words) as caught:
            regular_files.read(str(path))
        assert caught.value.filename == str(path)
        assert words in regular_files.problem_of(str(path), regular_files.SMALL)
        if path.name == "huge":
            continue
        for flags in (os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_CREAT, os.O_RDONLY | os.O_CREAT):
            with pytest.raises(OSError, match=f"{words}|directory"):
                regular_files.open_regular(str(path), flags)
    assert not [path for path in strange if not path.is_symlink() and not path.exists()]
    assert not (next(iter(strange)).parent / "nowhere").exists(), "a link was followed"


def test_a_file_is_read_up_to_what_it_may_have(tmp_path):
    path = tmp_path / "file"
    for size in (0, 1, 65_536, 65_537, 100_000):
        path.write_bytes(b"x" * size)
        assert regular_files.read(str(path), 100_000) == b"x" * size
    with pytest.raises(OSError, match="100000 bytes, more than 99999"):
        regular_files.read(str(path), 99_999)
    assert regular_files.problem_of(str(path)) == ""
    assert regular_files.problem_of(str(tmp_path / "none")) == ""
    with pytest.raises(FileNotFoundError):
        regular_files.read(str(tmp_path / "none"))


def test_one_is_made_with_its_mode_and_not_passed_on(tmp_path):
    fd = regular_files.open_regular(str(tmp_path / "new"), os.O_WRONLY | os.O_CREAT)
    try:
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
