"""Imports go down: a file imports from its own room or from rooms below; no circle of files.

A room is a folder of the package, or a file beside the folders. Every import counts: also those
inside functions, and those that only a type checker sees.
"""

import ast
import itertools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "scopekeeper"
FLOORS = (
    # from the ground up: each room may import from those before it
    "data", "errors", "quantities", "safe_text", "short_names", "version",
    "kernel", "regular_files", "whole_file", "unfinished_files", "users", "as_user", "state",
    "keeper_address",
    "systemd",
    "scope", "policy", "hosts", "clients", "history", "owned", "stderr", "lifecycle", "launch",
    "launcher", "hook", "exec", "python_api", "mcp", "mcp_configs", "metrics", "keeper",
    "report", "install", "openclaw", "doctor", "setup", "cli",
    # the roof: what starts the program, and what ``import scopekeeper`` offers
    "main", "__main__", "__init__",
)  # fmt: skip
PROGRAMS = {"launcher/scopekeeper.py", "launcher/scopekeeper_shell.py",
            "launcher/scopekeeper_prefix.py"}  # fmt: skip
"""Scripts that pip puts into ``bin/``: nothing imports them."""


def room_of(module):
    """Return the room of a module, named without the package."""
    return module.partition(".")[0] or "__init__"


def imports_of(tree, modules):
    """Yield the line and the module, without the package, of each import from the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name.partition(".")[2] in modules else node.module for name in whole]
        else:
            continue
        for name in found:
            top, _, module = name.partition(".")
            if top == "scopekeeper":
                yield node.lineno, module


def read(package):
    """Return the files of a package by module, each with its imports as (line, module)."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        paths[name.removesuffix("__init__").rstrip(".")] = path
    return {
        module: (path.relative_to(package), list(imports_of(ast.parse(path.read_text()), paths)))
        for module, path in paths.items()
    }


def upward(files):
    """Return a sentence for each import that does not go down to another room."""
    found = []
    for module, (path, imports) in files.items():
        room = room_of(module)
        assert room in FLOORS, f"{path}: FLOORS in {Path(__file__).name} does not have its room yet"
        for line, target in imports:
            to = room_of(target)
            if to != room and FLOORS.index(to) > FLOORS.index(room) and str(path) not in PROGRAMS:
                found.append(
                    f"scopekeeper/{path}:{line}: {room}/ imports from {to}/, which is above it; "
                    f"move what both need down, or have the caller hand it in"
                )
    return found


def circles(files):
    """Return the circles of files, each as a list of modules that import each other."""
    arrows = {
        module: [t for _, t in imports if t != module] for module, (_, imports) in files.items()
    }
    index, low, stack, found = {}, {}, [], []
    count = itertools.count()

    def visit(module):
        index[module] = low[module] = next(count)
        stack.append(module)
        for target in arrows.get(module, ()):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for module in files:
        if module not in index:
            visit(module)
    return found


@pytest.fixture(scope="module")
def files():
    return read(PACKAGE)


def test_no_file_imports_from_a_room_above_its_own(files):
    problems = upward(files)
    assert not problems, "\n" + "\n".join(problems)


def test_no_files_import_each_other_in_a_circle(files):
    assert not circles(files)


def test_every_room_is_there(files):
    assert set(FLOORS) == {room_of(module) for module in files}


def test_every_folder_says_what_lives_there():
    for folder in (path.parent for path in PACKAGE.rglob("*.py") if path.name == "__init__.py"):
        tree = ast.parse((folder / "__init__.py").read_text())
        assert ast.get_docstring(tree), f"{folder} has no docstring"


def test_an_import_upwards_is_named_with_file_line_and_rule(tmp_path):
    for name, text in {
        "kernel/__init__.py": "",
        "kernel/proc.py": "def f():\n    from scopekeeper.cli import main\n",
        "cli/main.py": "import scopekeeper.kernel.proc\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    found = read(tmp_path)
    (problem,) = upward(found)
    assert problem.startswith("scopekeeper/kernel/proc.py:2: kernel/ imports from cli/")
    assert circles(found) == [["cli.main", "kernel.proc"]]
