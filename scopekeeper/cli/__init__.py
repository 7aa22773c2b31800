"""The ``scopekeeper`` commands, one file each, and what they share to read options and print.

The top floor: a command may import from every room, and only ``scopekeeper.main`` imports this one.
``main`` imports a command when it is called, so a command imports heavy modules inside functions.
"""
