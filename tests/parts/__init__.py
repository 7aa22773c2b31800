"""What ``make test`` and ``make test-all`` run: the parts, side by side, and the table of them.

``catalogue`` lists the parts in their order, ``running`` runs them, ``tally`` is the plugin with
which each pytest tells what became of its tests, ``results`` reads that, ``table`` prints it.
"""
