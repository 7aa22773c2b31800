"""Which files hold none of the tests that ``-m`` asks for, by their words alone.

To read all files of tests takes ten seconds of a processor, most of them for ``assert``; a machine
of the lab is asked for the tests of a few.
"""

import ast
import re
from pathlib import Path

from tests import shares

Answer = bool | None  # None: for some of the file's tests, or not known


def may_hold(path: Path, below: str, selection: str) -> bool:
    """Return whether a test of a file may be selected; ``below`` is its path below ``tests/``."""
    try:
        tree = ast.parse(selection.strip() or "True", mode="eval")
    except SyntaxError:
        return True  # pytest says what is wrong with it
    return _answer(tree.body, path.read_text(), below) is not False


def _answer(node: ast.expr, text: str, below: str) -> Answer:
    match node:
        case ast.Name(name):
            return _has(name, text, below)
        case ast.UnaryOp(ast.Not(), operand):
            answer = _answer(operand, text, below)
            return None if answer is None else not answer
        case ast.BoolOp(operator, operands):
            answers = {_answer(each, text, below) for each in operands}
            decided = isinstance(operator, ast.Or)  # one such answer decides
            return decided if decided in answers else None if None in answers else not decided
        case _:
            return None


def _has(mark: str, text: str, below: str) -> Answer:
    """Return whether all tests of the file have a mark: by the shares, or by what it says."""
    share = shares.MARKS.get(mark, {}).get(below)
    if share == shares.ALL or re.search(rf"^pytestmark = .*\bmark\.{mark}\b", text, re.MULTILINE):
        return True
    return None if share or re.search(rf"\bmark\.{mark}\b", text) else False
