#!python
"""The program that pip installs as scopekeeper-shell.

The kernel drops a script's first word, so this one cannot see the ``-`` of a login shell; the
program that `python -m scopekeeper.launcher.direct` writes in its place can.
"""

import _signal  # type: ignore[import-not-found]  # built in
import sys

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # before anything is loaded

from scopekeeper.launch.shell import main

main(sys.argv[0], sys.argv)
