"""Writes docs/python.md from the docstrings of the Python API: ``python -m tests.docs.python``."""

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator

import scopekeeper
from scopekeeper import errors

from .blocks import ROOT

PAGE = ROOT / "docs" / "python.md"
_HEAD = """\
# Python

For a gateway or a script in Python. Members are children of the process that starts them, and end
with the block:

```python
import scopekeeper

with scopekeeper.Cohort(session="agent:main:main") as cohort:
    server = cohort.spawn(["sleep", "60"], name="time")
    (scope,) = scopekeeper.list_scopes(session="agent:main:main")
    print(scope.unit, scope.state, [member.name for member in scope.members])
```

What the commands do to whatever runs, also to what another process started, are functions:

```python
import scopekeeper

server = scopekeeper.spawn(["sleep", "60"], session="agent:main:main", name="time")
for result in scopekeeper.stop(session="agent:main:main", note="a new version"):
    print(result)  # scopekeeper-agent:main:main-main.scope: gone after 12 ms; 1 process terminated
assert server.wait() == -15 and not scopekeeper.list_scopes(session="agent:main:main")
```

By default SIGTERM ends Python at once, without leaving the block. What runs is then an orphan until
`scopekeeper reconcile` or a keeper ends it. A handler that raises leaves the block:

```python
import signal
import sys

import scopekeeper

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with scopekeeper.Cohort(session="agent:main:main") as cohort:
    cohort.spawn(["sleep", "1"]).wait()
```

The owner of a member is the service of this process, if this process is the main one there or a
helper that runs the same program. Else, as behind `ExecStart=timeout 1h python3 gateway.py`, it is
this process itself. [Concepts](concepts.md#who-may-end-what) has the whole rule.

All functions block; in asyncio, `await asyncio.to_thread(scopekeeper.stop, session=...)`. The
logger `scopekeeper` gets the warnings of launches and stops that go on.
`scopekeeper.mcp.stdio_client` takes the place of the one in the MCP SDK, with the options of
`Cohort`; it needs `scopekeeper[mcp]`. How to:
[a gateway in Python](gateway-python.md).

What follows is made by `make docs` from the docstrings.

"""
_METHODS = {
    "Cohort": ("spawn", "spawn_async", "place", "stop", "stop_async", "close"),
    "Birthplace": ("fileno", "close"),
}
_TABLES = (
    (scopekeeper.Options, "Options", ""),
    (scopekeeper.Selection, "Selection", ""),
    (scopekeeper.ScopeInfo, "ScopeInfo", ""),
    (scopekeeper.MemberInfo, "MemberInfo", ""),
    (
        scopekeeper.Result,
        "Result",
        "What `stop`, `Cohort.stop` and RemainsError have of each target. As text it is one line.",
    ),
    (scopekeeper.Target, "Target", ""),
    (scopekeeper.Remaining, "Remaining", ""),
    (scopekeeper.Escaped, "Escaped", ""),
    (scopekeeper.Ended, "Ended", "What `wait` returns of each run."),
)


def text() -> str:
    """Return the whole page."""
    parts = [_HEAD, "## Start members\n\n"]
    parts += [_class(scopekeeper.Cohort), _class(scopekeeper.Process)]
    parts += [_class(scopekeeper.AsyncProcess), _class(scopekeeper.Birthplace)]
    parts += [_function("scopekeeper.spawn", scopekeeper.spawn)]
    parts += [_function("scopekeeper.spawn_async", scopekeeper.spawn_async)]
    parts += ["## List, stop, label, wait\n\n"]
    parts += [_function("scopekeeper.list_scopes", scopekeeper.list_scopes)]
    parts += [_function("scopekeeper.stop", scopekeeper.stop)]
    parts += [_function("scopekeeper.label", scopekeeper.label)]
    parts += [_function("scopekeeper.wait", scopekeeper.wait)]
    parts += ["## Arguments and results\n\n", *(_table(*each) for each in _TABLES)]
    parts += ["## Errors\n\n", "".join(_errors())]
    return "".join(parts).rstrip() + "\n"


def _class(kind: type) -> str:
    node = _node(kind)
    made = next((x for x in node.body if getattr(x, "name", "") == "__init__"), None)
    shown = _signature(made) if made and kind.__name__ == "Cohort" else ""
    parts = [f"### scopekeeper.{kind.__name__}{shown}\n\n", _prose(kind.__doc__ or "")]
    methods = _METHODS.get(kind.__name__, ())
    parts += [_function(f"{kind.__name__}.{name}", getattr(kind, name), "####") for name in methods]
    rows = list(_fields(made.body if made else [])) + list(_fields(node.body))
    described = [row for row in rows if row[2]]
    return "".join(parts) + (_rows(described) if described else "")


def _function(name: str, function: object, level: str = "###") -> str:
    node = _node(function)
    doc = ast.get_docstring(node) or ""
    wait = "await " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{level} {name}\n\n```\n{wait}{name}{_signature(node)}\n```\n\n{_prose(doc)}"


def _table(kind: type, name: str, about: str) -> str:
    doc = inspect.cleandoc(kind.__doc__ or "")
    return f"### {name}\n\n{_prose(doc)}" + _prose(about) + _rows(list(_fields(_node(kind).body)))


def _errors() -> Iterator[str]:
    yield "All are in `scopekeeper.errors` and derive from ScopekeeperError, which has `message` "
    yield "and `hint`, the command or change that helps.\n\n"
    rows = [
        (name, "", inspect.cleandoc(kind.__doc__ or ""))
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.ScopekeeperError)
    ]
    yield _rows(rows)


def _node(thing: object) -> ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef:
    node = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return node


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    given, shown = node.args, []
    plain = [each for each in given.args if each.arg != "self"]
    defaults = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    shown += [_argument(*pair) for pair in zip(plain, defaults, strict=True)]
    if given.vararg:
        shown.append(f"*{given.vararg.arg}: {_type(given.vararg.annotation)}")
    elif given.kwonlyargs:
        shown.append("*")
    shown += map(_argument, given.kwonlyargs, given.kw_defaults)
    if given.kwarg:
        kind = ast.unparse(given.kwarg.annotation).removeprefix("Unpack[").removesuffix("]")
        shown.append(f"**{given.kwarg.arg}: {kind}")
    returns = f" -> {_type(node.returns)}" if node.returns and node.name[0] != "_" else ""
    return f"({', '.join(shown)}){returns}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {_type(argument.annotation)}" if argument.annotation else ""
    return f"{argument.arg}{kind}" + (f" = {ast.unparse(default)}" if default else "")


def _type(annotation: ast.expr) -> str:
    """Return an annotation; one in quotes is not evaluated when the module is imported."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def _fields(body: list[ast.stmt]) -> Iterator[tuple[str, str, str]]:
    """Yield the name, type and description of each attribute in a body."""
    for at, after in itertools.zip_longest(body, body[1:]):
        doc = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            doc = str(after.value.value)
        if isinstance(at, ast.AnnAssign):
            name, kind = ast.unparse(at.target), _type(at.annotation)
        elif isinstance(at, ast.Assign) and doc:
            name, kind = ast.unparse(at.targets[0]), ""
        else:
            if isinstance(at, ast.FunctionDef) and any(
                ast.unparse(each) == "property" for each in at.decorator_list
            ):
                yield at.name, _type(at.returns), ast.get_docstring(at) or ""
            continue
        yield name.replace("self.", "").strip("()"), kind, doc


def _rows(rows: list[tuple[str, str, str]]) -> str:
    lines = ["| | | |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {f'`{kind}`' if kind else ''} | {_line(doc)} |".replace(" | `", " | `")
        for name, kind, doc in ((name, kind.replace("|", r"\|"), doc) for name, kind, doc in rows)
    ]
    return "\n".join(lines) + "\n\n"


def _line(doc: str) -> str:
    return " ".join(_prose(doc).split()).replace("|", r"\|")


def _prose(doc: str) -> str:
    """Return a docstring as Markdown."""
    text = re.sub("``", "`", inspect.cleandoc(doc)).replace("<", "&lt;")
    return f"{text}\n\n" if text else ""


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
