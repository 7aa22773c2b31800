"""What a module keeps to itself, it uses."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import scopekeeper

PACKAGE = Path(scopekeeper.__file__).parent


def defined(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module gives to functions, classes and values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for each in targets if isinstance(each, ast.Name))


def test_every_private_name_is_used_in_its_module():
    unused = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        unused += [
            f"{path.relative_to(PACKAGE)}: {name}"
            for name in set(defined(ast.parse(text)))
            if re.fullmatch("_[^_].*", name) and len(re.findall(rf"\b{name}\b", text)) < 2
        ]
    assert not unused
