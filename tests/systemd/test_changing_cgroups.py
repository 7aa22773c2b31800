"""Lists of scopes that end, or are made anew, right before each look that the list takes."""

import os
import subprocess
import sys

import pytest

from tests.machine import FOREVER, Scopekeeper, directory_of

from .canary import Canaries

pytestmark = pytest.mark.systemd

CHANGES = """
import os, sys, time
from scopekeeper.cli import ls_list
from scopekeeper.cli.list_view import ListOptions
from scopekeeper.kernel.proc import mount_point
from scopekeeper.scope.selection import Selector
from tests.vanishing import before_look
what, scope, leaf, number, form = *sys.argv[1:4], int(sys.argv[4]), sys.argv[5]
def gone(folder):
    with open(folder + "/cgroup.kill", "w") as file:
        file.write("1")
    while os.path.isdir(folder):
        try:
            if "populated 0" in open(folder + "/cgroup.events").read():
                os.rmdir(folder)
        except OSError:
            time.sleep(0.001)
def act():
    if what == "leaf":
        gone(leaf)
    elif what == "scope":
        gone(leaf)
        while os.path.isdir(scope):  # systemd removes it
            time.sleep(0.001)
    elif what == "another leaf":
        gone(leaf)
        os.mkdir(leaf)
    elif what == "nested":
        os.mkdir(leaf + "/inner")
        with open(leaf + "/inner/cgroup.procs", "w") as file:
            file.write(open(leaf + "/cgroup.procs").read().split()[0])
with before_look(mount_point(), number, act) as moment:
    try:
        ls_list.show(Selector(), (), ListOptions(), **{form: True})
    except SystemExit as ended:
        status = ended.code
print("acted" if moment.acted else "done", file=sys.stderr)
sys.exit(status)
"""
"""Lists everything; at one of its looks, something is changed."""
STEP = 11
"""Every how many looks there is a trial; the steps of the forms and changes are shifted."""


@pytest.mark.parametrize("form", ["members", "tree", "as_json"])
@pytest.mark.parametrize("what", ["leaf", "scope", "another leaf", "nested"])
def test_it_lists_what_stays(keeper: Scopekeeper, session: str, what: str, form: str) -> None:
    canaries = Canaries(keeper, session)
    number, last = len(what) % STEP + 1, "acted"
    while last == "acted":
        goes = keeper.member("-s", f"{session}:{number}", "--", *FOREVER)
        if what.endswith("leaf"):  # its scope stays
            keeper.member("-s", f"{session}:{number}", "-n", "sibling", "--", *FOREVER)
        leaf = directory_of(goes.pid)
        call = [sys.executable, "-c", CHANGES, what, os.path.dirname(leaf), leaf, str(number), form]
        done = subprocess.run(call, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (number, done.stderr)
        assert "Traceback" not in done.stderr
        assert canaries.session in done.stdout, number
        last = done.stderr.split()[-1]
        keeper.call("stop", "-s", f"{session}:{number}")
        number += STEP
    assert number > 2 * STEP, "nothing was changed"
    canaries.check()
