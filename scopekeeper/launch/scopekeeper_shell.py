#!python
"""What pip puts on the PATH as scopekeeper-shell.

The kernel keeps a script's first word from it, so that this one cannot see the ``-`` of a login
shell; what `python -m scopekeeper.launch.direct` writes in its place can.
"""

import sys

from scopekeeper.launch.shell import main

main(sys.argv[0], sys.argv)
