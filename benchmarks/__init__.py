"""Compares speed and memory with named rivals, as ratios measured in one run on one machine."""
