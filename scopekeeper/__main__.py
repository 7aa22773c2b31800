"""``python -m scopekeeper``: the same as the script of that name."""

from scopekeeper.launch import main

main()
