"""What stays flat while much begins and ends: ``make storm``, ``make day``.

The rules, and what came out: ``docs/reliability.md``.
"""
