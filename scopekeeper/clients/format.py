"""The form of a table of clients, and of its compiled lines. Pure.

On the way of a launch that has a user's table: builtin modules only.
"""

Row = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...], str, str, str]
"""A client: name, programs, variables of its session, variables beside them, prefix, lane, owner.
"""
OWNERS = ("starter", "client")
ROWS_MAX, LIST_MAX = 64, 8
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")
_FIELDS = 7


def is_name(text: str) -> bool:
    """Return whether text can name a client or a prefix."""
    return 0 < len(text) <= 32 and _LETTERS | _DIGITS | {"-", "_", "."} >= set(text)


def is_program(text: str) -> bool:
    """Return whether text can be the name of a program."""
    return 0 < len(text) <= 64 and text.isprintable() and not {"/", ",", "\t", "\x7f"} & set(text)


def is_variable(text: str) -> bool:
    """Return whether text can be the name of a variable that is a client's, and not ours."""
    return (
        0 < len(text) <= 64
        and _LETTERS | _DIGITS | {"_"} >= set(text)
        and text[0] not in _DIGITS
        and not text.startswith("SCOPEKEEPER_")
    )


def is_lane(text: str) -> bool:
    """Return whether text can be a lane."""
    return 0 < len(text) <= 64 and _LETTERS | _DIGITS | {"-", "_", ".", ":"} >= set(text)


def dumps(row: Row) -> str:
    """Return one line for a client."""
    return "\t".join(field if isinstance(field, str) else ",".join(field) for field in row)


def loads(lines: list[str]) -> tuple[Row, ...] | None:
    """Return the table of compiled lines; None if one of them is damaged."""
    if not 0 < len(lines) <= ROWS_MAX:
        return None
    rows = []
    for line in lines:
        fields = line.split("\t")
        if len(fields) != _FIELDS:
            return None
        name, prefix, lane, owner = fields[0], *fields[4:]
        programs, session, beside = (
            tuple(field.split(",")) if field else () for field in fields[1:4]
        )
        if not (
            is_name(name)
            and is_name(prefix)
            and is_lane(lane)
            and owner in OWNERS
            and max(len(programs), len(session), len(beside)) <= LIST_MAX
            and programs
            and all(map(is_program, programs))
            and all(map(is_variable, session + beside))
        ):
            return None
        rows.append((name, programs, session, beside, prefix, lane, owner))
    return tuple(rows)
