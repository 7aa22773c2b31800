"""Moments as text: the same in every list and on every line."""

import time
from datetime import datetime


def when(moment: int) -> str:
    """Format microseconds since the epoch as local time, to the second."""
    try:
        return datetime.fromtimestamp(moment / 1e6).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"


def briefly(moment: int, *, seen: bool = True) -> str:
    """Format a moment for a terminal; without the date if it is of today.

    moment is in microseconds since the epoch. ``≤`` marks the time of an end that nothing saw.
    """
    day, _, clock = when(moment).partition(" ")
    today = when(time.time_ns() // 1000).partition(" ")[0]
    text = clock if day == today else f"{day[5:]} {clock[:5]}" if day[:4] == today[:4] else day
    return text if seen else f"≤{text}"
