#!python
"""The program that pip installs; `python -m scopekeeper.launcher.direct` makes it faster."""

import _signal  # type: ignore[import-not-found]  # built in

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # before anything is loaded

from scopekeeper.main import main

main()
