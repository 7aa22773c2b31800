"""Whether something grows: the slope by least squares, with its standard error.

Samples that follow each other are alike, so the error of plain least squares is too small. The
samples are averaged to blocks of a minute, and the error is widened by what is still alike in
neighbouring blocks (their correlation r: by the root of (1 + r) / (1 - r)).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 60.0
"""Seconds."""
SIGMAS = 2.0
"""So many standard errors count as 'within the error'."""
FLAT = 0.05
"""The part of its mean by which something may grow in an hour and still be flat."""
_MOST_ALIKE = 0.9


@dataclass(frozen=True)
class Slope:
    """A line through samples."""

    mean: float
    per_hour: float
    error: float

    @property
    def verdict(self) -> str:
        """Return why it is flat, or that it is not."""
        if abs(self.per_hour) <= SIGMAS * self.error or self.per_hour == 0:
            return "flat: 0 is within the error"
        if self.per_hour < 0:
            return "falls"
        if self.per_hour + SIGMAS * self.error <= FLAT * self.mean:
            return f"flat: below {FLAT:.0%} an hour"
        return "GROWS"


def blocks(
    seconds: Sequence[float], values: Sequence[float], block: float = BLOCK
) -> tuple[list[float], list[float]]:
    """Return the mean time and the mean value of the samples of each block."""
    found: dict[int, list[tuple[float, float]]] = {}
    for at, value in zip(seconds, values, strict=True):
        found.setdefault(int((at - seconds[0]) // block), []).append((at, value))
    means = [[sum(column) / len(each) for column in zip(*each, strict=True)]
             for each in found.values()]  # fmt: skip
    return [at for at, _ in means], [value for _, value in means]


def slope(seconds: Sequence[float], values: Sequence[float], block: float = BLOCK) -> Slope:
    """Return the slope of the values; needs three blocks."""
    times, means = blocks(seconds, values, block)
    count = len(times)
    if count < 3:
        raise ValueError(f"a slope needs three blocks of {block:.0f} s, not {count}")
    middle, mean = sum(times) / count, sum(means) / count
    spread = sum((at - middle) ** 2 for at in times)
    steep = sum((at - middle) * (value - mean)
                for at, value in zip(times, means, strict=True)) / spread  # fmt: skip
    left = [value - mean - steep * (at - middle) for at, value in zip(times, means, strict=True)]
    total = sum(each**2 for each in left)
    error = math.sqrt(total / (count - 2) / spread)
    alike = 0.0
    if total:
        alike = sum(one * next_ for one, next_ in itertools.pairwise(left)) / total
    alike = min(max(alike, 0.0), _MOST_ALIKE)
    return Slope(mean, steep * 3600, error * math.sqrt((1 + alike) / (1 - alike)) * 3600)
