"""Checks what this machine has of what scopekeeper needs; a finding has what mends it."""
