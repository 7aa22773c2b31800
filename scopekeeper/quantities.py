"""Parse and show durations, sizes, counts and times. Pure.

``ls`` only shows them: what parses imports ``re``, which takes as long as the interpreter.
"""

UNLIMITED = -1

_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LONGEST = 2**63 - 1


def duration(option: str, text: str) -> int:
    """Return microseconds of ``90s``, ``15m``, ``1h30m``, ``500ms``; a bare number is seconds.

    Raises ValueError with one sentence that names the option.
    """
    import re

    name = option.replace("_", "-")
    parts = re.findall(r"(\d+(?:\.\d+)?)(us|ms|min|s|m|h|d)", text)
    if "".join(number + unit for number, unit in parts) == text and parts:
        total = sum(float(number) * _MICROSECONDS[unit] for number, unit in parts)
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        total = float(text) * 1_000_000
    else:
        raise ValueError(f"--{name}: {text!r} is not a duration; write 90s, 15m or 2h")
    if total > _LONGEST:
        raise ValueError(f"--{name}: {text!r} is too long; leave it out for no end")
    return round(total)


def size(option: str, text: str, others: str = "") -> int:
    """Return bytes; raises ValueError with one sentence that names the option."""
    import re

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text)
    value = int(min(float(match[1]) * _BYTES[match[2]], 2.0**64)) if match else 0
    if not match or (not value and not others):
        name, comma = option.replace("_", "-"), "," if others else " or"
        raise ValueError(f"--{name}: {text!r} is not a size; write 512M{comma} 2G{others}")
    return value


def limit(option: str, text: str) -> int:
    """Return a limit: bytes for memory, a number for tasks and CPU weight, -1 for infinity.

    Raises ValueError with one sentence that names the option.
    """
    name = option.replace("_", "-")
    if text == "infinity" and option != "cpu_weight":
        return UNLIMITED
    if "memory" in option:
        value = size(option, text, " or infinity")
        smallest, largest = 0 if "swap" in option else 1, _LONGEST
        shape = "a size above zero" if smallest else "a size, or 0 for no swap"
    else:
        import re

        if not re.fullmatch(r"\d+", text):
            raise ValueError(f"--{name}: {text!r} is not a whole number above zero")
        value = int(text)
        smallest, largest = 1, 10_000 if option == "cpu_weight" else 1 << 32
        shape = f"a number from {smallest} to {largest}"
    if "memory" in option and value > largest:
        raise ValueError(f"--{name}: {text!r} is too large; leave it out for no limit")
    if not smallest <= value <= largest:
        raise ValueError(f"--{name}: {text!r} is out of range; write {shape}")
    return value


def moment(option: str, text: str) -> float:
    """Return seconds since the epoch of an ISO 8601 time, ``@SECONDS`` or ``now``.

    A time without a zone is local. Raises ValueError with one sentence that names the option.
    """
    from datetime import UTC, datetime

    try:
        if text.startswith("@"):
            return datetime.fromtimestamp(float(text[1:]), UTC).timestamp()
        moment = datetime.now().astimezone() if text == "now" else datetime.fromisoformat(text)
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):  # before the year 1, or after 9999
        raise ValueError(
            f"--{option}: {text!r} is not a time; write 2026-01-31T14:30:00 or @SECONDS"
        ) from None


def since(option: str, text: str, now: float) -> float:
    """Return seconds since the epoch of a time (see moment), or of a duration ago (``2h``).

    Raises ValueError with one sentence that names the option.
    """
    import re

    if re.fullmatch(r"(\d+(\.\d+)?(us|ms|min|s|m|h|d))+", text):
        return now - duration(option, text) / 1e6
    try:
        return moment(option, text)
    except ValueError:
        raise ValueError(
            f"--{option}: {text!r} is no time; write 2h, 2026-01-31T14:30:00 or @SECONDS"
        ) from None


def show_duration(seconds: float) -> str:
    """Return a duration in its two largest units: ``3d4h``, ``12m5s``, ``0.4s``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    left, parts = int(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join(parts[:2])


def written_duration(microseconds: int) -> str:
    """Return a duration in full, as a person would write it: ``5s``, ``1h30m``, ``1.5s``."""
    seconds, rest = divmod(microseconds, 1_000_000)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    if seconds or rest or not parts:
        parts.append(f"{seconds}.{rest:06}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)


def show_bytes(count: float) -> str:
    """Return a size in binary units: ``412M``, ``1.5G``."""
    for unit in ("B", "K", "M", "G"):
        if count < 1024:
            return f"{count:.0f}{unit}" if unit in "BKM" or count >= 10 else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.1f}T"
