"""``setup``: finds what is on this machine, contains it, records that, and takes it back.

``steps`` lists the steps: each finds its part of the machine, changes it, and undoes its change by
the record. Imports every room below, ``install``, ``openclaw`` and ``doctor`` among them; only
``cli`` imports it.
"""
