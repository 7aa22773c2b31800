#!python
"""The program that pip installs as scopekeeper-prefix.

`python -m scopekeeper.launcher.direct` writes a faster one in its place.
"""

import _signal  # type: ignore[import-not-found]  # built in
import sys

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # before anything is loaded

from scopekeeper.launch.shell_prefix import main

main(sys.argv[0], sys.argv)
