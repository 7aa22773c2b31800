"""Runs as a client sees them: commands whose terminal the keeper holds.

``start`` makes a run, ``attach``, ``send`` and ``wait`` use one through the keeper (``client``,
``messages``, ``protocol``), ``run`` and ``log`` are what is on the disk. May import ``launch`` and
everything below it; ``keeper`` and ``cli`` import from here.
"""
