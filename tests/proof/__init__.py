"""Proofs that can be run for as long as one likes: ``python -m tests.proof``, ``make proof``.

The rules, and what came out: ``docs/reliability.md``.
"""
