"""Lets a client pass the variables that name a session on to a server, and undoes that. Pure.

Codex gives a server seven variables, and those that its ``env_vars`` lists.
"""

from collections.abc import Sequence

from scopekeeper.mcp_configs.document import Edit, Value
from scopekeeper.mcp_configs.text_edit import remove_comma

VARIABLES = ("SCOPEKEEPER_SESSION", "SCOPEKEEPER_SESSION_ID", "SCOPEKEEPER_LANE",
             "SCOPEKEEPER_RUN")  # fmt: skip
"""What ``run`` takes from its environment for the options of these names."""


def is_complete(names: object) -> bool:
    """Return whether a server's list stays as it is: it has some of them, or is no list."""
    return not isinstance(names, list) or any(name in names for name in VARIABLES)


def add(array: Value, words: Sequence[str], between: str) -> Edit:
    """Add the variables, as quoted words, at the end of a list."""
    if not array.items:  # a blank marks a list that was there, and empty
        return Edit(array.start + 1, array.start + 1, " " + between.join(words))
    end = array.items[-1].end
    return Edit(end, end, "".join(between + word for word in words))


def is_alone(text: str, array: Value) -> bool:
    """Return whether a list has these variables only, and was added with them."""
    names = tuple(item.data for item in array.items)
    return names == VARIABLES and text[array.start + 1] != " "


def remove(text: str, array: Value) -> list[Edit]:
    """Remove the variables from a list that has others, or was empty."""
    names = [item.data for item in array.items]
    first = len(names) - len(VARIABLES)
    if first >= 0 and tuple(names[first:]) == VARIABLES:
        start = array.items[first - 1].end if first else array.start + 1
        end = array.items[-1].end
        if "#" not in text[start:end]:
            return [Edit(start, end, "")]
    edits = []
    starts = [*(item.start for item in array.items[1:]), -1]
    for item, comma, following in zip(array.items, array.commas, starts, strict=True):
        if item.data not in VARIABLES:
            continue
        if following >= 0 and not text[comma + 1 : following].strip():
            edits.append(Edit(item.start, following, ""))
        else:
            edits += [Edit(item.start, item.end, ""), *remove_comma(comma)]
    return edits
