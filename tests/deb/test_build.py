"""The .deb is a function of the checkout: not of when, where and by whom it is built."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from scopekeeper.version import __version__
from tests.lab import deb, host, payload

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.builds


def test_a_build_of_a_copy_is_the_same_to_the_byte(tmp_path):
    """Of another age, with another umask; `make deb` has built the first one."""
    (first,) = (ROOT / "dist").glob(f"scopekeeper_{__version__}_*.deb")
    copy = tmp_path / "copy"
    for name in payload.checkout_files(ROOT):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
        mode = (ROOT / name).stat().st_mode
        (copy / name).chmod(0o770 if mode & 0o100 else 0o660)
        os.utime(copy / name, (1_700_000_000, 1_700_000_000))
    subprocess.run(["git", "init", "-q", copy], check=True)
    made = deb.build(copy, tmp_path / "out", host.home(), print, threading.Event())
    assert [path.name for path in made] == [first.name]
    assert made[0].read_bytes() == first.read_bytes()
