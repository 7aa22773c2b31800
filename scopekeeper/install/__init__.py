"""Puts units, bus files, manual pages and completions in their places, and takes them away."""
