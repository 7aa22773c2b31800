"""Random configurations of MCP clients as people write them: comments, odd blanks, all quotes.

The value of each is known beforehand, so the tests need no parser of ours.
"""

import json
import string

from hypothesis import strategies as st

from scopekeeper.mcp_configs.json5 import Dialect
from tests.formats import FORMATS

COMMANDS = st.sampled_from(
    ["npx", "uvx", "/opt/a b/it's", 'say "hi"', "C:\\bin\\x.exe", "${env:HOME}/bin/é", "a\tb", "😀"]
)
WORDS = COMMANDS | st.text(string.printable + "é\u2028", max_size=6)
NAMES = st.text(string.ascii_letters + string.digits + "-_ .é$\"'~", min_size=1, max_size=6)
SESSION = ["SCOPEKEEPER_SESSION", "SCOPEKEEPER_SESSION_ID", "SCOPEKEEPER_LANE", "SCOPEKEEPER_RUN"]
"""The variables that Codex passes on to a wrapped server."""
VARIABLES = ([], ["A"], ["A", "B c"], ["SCOPEKEEPER_LANE"], SESSION, ["A", *SESSION], "none")
OTHERS = ("env", "type", "timeout", "cwd", "x")


@st.composite
def servers(draw):
    """Return servers by name, mostly stdio ones, with their keys in any order."""
    made = {}
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        server = {"url": "https://example.org"}
        if draw(st.integers(0, 5)):
            server = {"command": draw(COMMANDS)}
            if draw(st.booleans()):
                server["args"] = draw(st.lists(WORDS, max_size=3))
        for key in draw(st.lists(st.sampled_from(OTHERS), max_size=2, unique=True)):
            server[key] = draw(st.sampled_from([{"command": "not this", "args": []}, "stdio", []]))
        keys = draw(st.permutations(list(server)))
        made[name] = {key: server[key] for key in keys}
    return made


class Writer:
    """Writes values with blanks and comments in between; draw comes from hypothesis."""

    def __init__(self, draw, dialect):
        self.draw = draw
        self.dialect = dialect
        self.comments = 0
        self.line_end = draw(st.sampled_from(["\n", "\r\n"]))
        self.style = draw(st.sampled_from(["compact", "spaced", "lines", "wild"]))

    def gap(self, depth, *, line=False):
        """Return what separates two tokens; with line, preferably a line break."""
        if self.style == "compact":
            return ""
        new_line = self.line_end + "  " * depth
        gap = new_line if line and self.style == "lines" else " " if line else ""
        if self.style == "wild":
            gap = self.draw(st.sampled_from(["", " ", new_line, " \t", self.line_end * 2]))
        return gap + self.comment(new_line)

    def comment(self, new_line):
        if not self.dialect.comments or self.draw(st.integers(0, 7)):
            return ""
        self.comments += 1
        text = f"c{self.comments}, ] }} \" '"
        return self.draw(st.sampled_from([f"/* {text} */", f" // {text}{new_line}"]))

    def string(self, text):
        if self.dialect.json5 and self.draw(st.booleans()):
            inner = json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"')
            return "'" + inner.replace("'", "\\'") + "'"
        return json.dumps(text, ensure_ascii=self.draw(st.booleans()))

    def key(self, text):
        plain = text.isascii() and text.isidentifier()
        if self.dialect.json5 and plain and self.draw(st.booleans()):
            return text
        return self.string(text)

    def value(self, value, depth=0):
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, list):
            return self.items("[", [self.value(item, depth + 1) for item in value], "]", depth)
        if isinstance(value, dict):
            members = [
                f"{self.key(key)}{self.gap(depth)}:{self.colon()}{self.value(item, depth + 1)}"
                for key, item in value.items()
            ]
            return self.items("{", members, "}", depth)
        return json.dumps(value)

    def colon(self):
        return "" if self.style == "compact" else " "

    def items(self, opening, items, closing, depth):
        text = opening
        for at, item in enumerate(items):
            text += self.gap(depth + 1, line=True) + item
            may_end = self.dialect.trailing_commas and self.draw(st.booleans())
            if at < len(items) - 1 or may_end:
                text += self.gap(depth + 1) + ","
        return text + self.gap(depth, line=bool(items)) + closing


def is_json(kind):
    return isinstance(kind.dialect, Dialect)


def spelled(draw, kind, server):
    """Return a server as this client writes it."""
    if "command" not in server:
        return server
    rest = {key: value for key, value in server.items() if key not in ("command", "args")}
    if kind.command_is_list:
        return {"command": [server["command"], *server.get("args", [])], **rest}
    if kind.nested and draw(st.booleans()):
        inner = {"path" if key == "command" else key: server[key]
                 for key in server if key in ("command", "args")}  # fmt: skip
        return {**rest, "command": inner}
    return {kind.command if key == "command" else key: value for key, value in server.items()}


@st.composite
def json_configs(draw):
    """Return a format, a text in it, and the value of the text."""
    kind = draw(st.sampled_from([each for each in FORMATS.values() if is_json(each)]))
    value = {"command": "not this one", "n": 1.5, "args": [None, True]}
    place = draw(st.sampled_from(kind.places))
    inner = value
    for key in place[:-1]:
        key = "/home/ann" if key == "*" else key  # noqa: PLW2901
        inner[key] = {"before": [], **inner.get(key, {})}
        inner = inner[key]
    made = draw(servers())
    inner[place[-1]] = {name: spelled(draw, kind, server) for name, server in made.items()}
    writer = Writer(draw, kind.dialect)
    mark = draw(st.sampled_from(["", "\ufeff"]))
    end = draw(st.sampled_from(["", writer.line_end]))
    return kind, f"{mark}{writer.gap(0)}{writer.value(value)}{writer.gap(0)}{end}", value


class TomlWriter:
    """Writes the same values as TOML."""

    def __init__(self, draw):
        self.draw = draw
        self.line_end = draw(st.sampled_from(["\n", "\r\n"]))

    def one_of(self, *texts):
        return self.draw(st.sampled_from(texts))

    def note(self):
        return self.one_of("", "", '  # it\'s "c" ] }', "#")

    def line(self, text):
        return f"{text}{self.note()}{self.line_end}"

    def value(self, value):
        if isinstance(value, list):
            return self.array([self.value(item) for item in value])
        if isinstance(value, dict):
            members = [f"{self.key(key)} = {self.value(item)}" for key, item in value.items()]
            return f"{{ {', '.join(members)} }}"
        if "'" not in value and value.isprintable() and self.draw(st.booleans()):
            return f"'{value}'"
        escaped = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        return self.one_of(escaped, escaped, f'""{escaped}""')

    def array(self, items):
        if not items or self.draw(st.booleans()):
            return f"[{self.one_of('', ' ')}{', '.join(items)}]"
        start = f"{self.note()}{self.line_end}    "
        return f"[{start}{f',{start}'.join(items)},{self.line_end}]"

    def key(self, name):
        bare = name.isascii() and name.replace("-", "a").replace("_", "a").isalnum()
        if bare and self.draw(st.booleans()):
            return name
        return f"'{name}'" if "'" not in name else json.dumps(name, ensure_ascii=False)

    def servers(self, servers):
        """Write them as dotted keys, as inline tables, and as tables."""
        how = {name: self.one_of("dotted", "inline", "table", "table") for name in servers}
        if "dotted" in how.values():  # [mcp_servers] would open the table again
            how = {name: "table" if each == "inline" else each for name, each in how.items()}
        lines = []
        for name in (name for name in servers if how[name] == "dotted"):
            start = f"mcp_servers{self.one_of('.', ' . ')}{self.key(name)}."
            lines += self.members(start, servers[name])
        inline = [name for name in servers if how[name] == "inline"]
        if inline:
            lines.append(self.line("[mcp_servers]"))
            lines += [
                self.line(f"{self.key(name)} = {self.value(servers[name])}") for name in inline
            ]
        for name in (name for name in servers if how[name] == "table"):
            indent = self.one_of("", "  ", "\t")
            lines.append(self.line(f"{indent}[mcp_servers.{self.key(name)}]"))
            lines += self.members(indent, servers[name])
        return lines

    def members(self, start, server):
        equals = self.one_of(" = ", "=", " =\t")
        return [
            self.line(f"{start}{self.key(key)}{equals}{self.value(value)}")
            for key, value in server.items()
        ]


@st.composite
def toml_configs(draw):
    """Return the format, a text in it, and the servers in the text."""
    made = draw(servers())
    for server in made.values():
        if not draw(st.integers(0, 2)):
            server["env_vars"] = draw(st.sampled_from(VARIABLES))
    writer = TomlWriter(draw)
    end = writer.line_end
    lines = [f"# top{end}", f'command = "not this one"{end}', *writer.servers(made)]
    if draw(st.booleans()):
        lines.append(f"[[profiles]]{end}when = 1979-05-27 07:32:00 # then{end}n = nan{end}")
    whole = "".join([draw(st.sampled_from(["", "", "\ufeff"])), *lines])
    return FORMATS["codex"], whole if draw(st.booleans()) else whole.removesuffix(end), made


NOT_PLAIN = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


class YamlWriter:
    """Writes the same values as YAML, in all the ways that people do."""

    def __init__(self, draw):
        self.draw = draw
        self.line_end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
        self.comments = 0

    def one_of(self, *texts):
        return self.draw(st.sampled_from(texts))

    def note(self):
        if self.draw(st.integers(0, 3)):
            return ""
        self.comments += 1
        return f"  # c{self.comments}, ] }} - \" ':"

    def line(self, indent, text):
        before = self.one_of("", "", "", self.line_end, f"{indent}# c0, ] }} - {self.line_end}")
        return f"{before}{indent}{text}{self.note()}{self.line_end}"

    def word(self, text):
        """Write a string; most need no quotes."""
        plain = text and text.isascii() and text[0].isalpha() and text.replace("-", "a").isalnum()
        if plain and text.lower() not in NOT_PLAIN and self.draw(st.booleans()):
            return text
        if "'" not in text and text.isprintable() and self.draw(st.booleans()):
            return f"'{text}'"
        escaped = "".join(
            char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}"
            for char in text
        )
        return f'"{escaped}"'

    def flow(self, value):
        if isinstance(value, list):
            gap = self.one_of("", " ")
            return f"[{gap}{', '.join(self.flow(item) for item in value)}{gap}]"
        if isinstance(value, dict):
            members = [f"{self.key(key)}: {self.flow(item)}" for key, item in value.items()]
            return f"{{{', '.join(members)}}}"
        return self.word(value)

    def key(self, name):
        return self.word(name)

    def server(self, indent, head, server):
        """Return the lines of a server; head is what stands before its first key."""
        if head.endswith(":") and self.draw(st.booleans()) and self.draw(st.booleans()):
            return [self.line(indent, f"{head} {self.flow(server)}")]
        lines = []
        inside = indent + "  "
        if head.endswith(":"):
            lines.append(self.line(indent, head))
        for number, (key, value) in enumerate(server.items()):
            first = number == 0 and not head.endswith(":")
            start, at = (head, indent) if first else ("", inside)
            lines += self.member(at, start, key, value, inside)
        return lines

    def member(self, indent, start, key, value, inside):
        key = self.key(key)
        if isinstance(value, list) and value and self.draw(st.booleans()):
            step = self.one_of("", "  ", "    ")
            gap = self.one_of(" ", "   ")
            return [self.line(indent, f"{start}{key}:"),
                    *(self.line(inside + step, f"-{gap}{self.word(item)}")
                      for item in value)]  # fmt: skip
        written = self.word(value) if isinstance(value, str) else self.flow(value)
        return [self.line(indent, f"{start}{key}:{self.one_of(' ', '  ')}{written}")]


@st.composite
def yaml_configs(draw):
    """Return a format, a text in it, and the servers in the text."""
    kind = draw(st.sampled_from([each for each in FORMATS.values()
                                 if each.dialect and not is_json(each)]))  # fmt: skip
    made = draw(servers())
    writer = YamlWriter(draw)
    made = {name: {key: value for key, value in spelled(draw, kind, server).items()
                   if not isinstance(value, dict) or key == "env"}
            for name, server in made.items()}  # fmt: skip
    place = kind.places[0][0]
    lines = [
        writer.line("", "top: &top {command: not this, args: [a]}"),
        writer.line("", f"{place}:"),
    ]
    if not made:
        lines[-1] = writer.line("", f"{place}: {{}}")
    indent = writer.one_of("  ", "    ")
    is_list = kind.name == "continue"
    for name, server in made.items():
        whole = {"name": name, **server} if is_list else server
        if draw(st.booleans()) and not is_list:
            lines += writer.server(indent, f"{writer.key(name)}:", whole)
            continue
        head = "- " if is_list else f"{writer.key(name)}:"
        lines += writer.server(indent, head, whole)
    lines.append(writer.line("", f"again: {writer.one_of('*top', '{<<: *top}')}"))
    mark = draw(st.sampled_from(["", "", "\ufeff"]))
    text = mark + "".join(lines)
    text = text if draw(st.booleans()) else text.removesuffix(writer.line_end)
    return kind, text, list(made.items()) if is_list else made
