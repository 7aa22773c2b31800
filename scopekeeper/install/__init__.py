"""``install`` and ``uninstall``: units, files for the bus, manual pages, completions.

``plan`` decides, purely, from what is there; ``apply`` carries it out and rolls back on failure.
Imports every room below, ``systemd`` above all; ``openclaw``, ``doctor`` and ``cli`` import it.
"""
