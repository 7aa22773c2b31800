"""``python -m scopekeeper``: the same as the script of that name."""

from scopekeeper.main import main

main()
