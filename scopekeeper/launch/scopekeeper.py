#!python
"""What pip puts on the PATH; `python -m scopekeeper.launch.direct` makes it faster."""

from scopekeeper.launch import main

main()
