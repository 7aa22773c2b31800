"""Random settings of clients with hooks of their users, as people write them.

The value of each is known beforehand, so the tests need no parser of ours.
"""

from hypothesis import strategies as st

from tests.configs import COMMANDS, TomlWriter, Writer, YamlWriter
from tests.formats import FORMATS

JSON_CLIENTS = ("claude-code", "gemini", "copilot")
OTHER_EVENTS = ("Stop", "pre_tool_call")


@st.composite
def users_hooks(draw, kind):
    """Return the hooks of a user by event, with lists that may be empty; None for none at all."""
    if not draw(st.integers(0, 3)):
        return None
    made = {}
    for event in draw(st.lists(st.sampled_from([*kind.events, *OTHER_EVENTS]), unique=True)):
        made[event] = [kind.item(command) for command in draw(st.lists(COMMANDS, max_size=2))]
    return made


@st.composite
def json_settings(draw):
    """Return the client's hooks, a text in its format, and the value of the text."""
    kind = FORMATS[draw(st.sampled_from(JSON_CLIENTS))].hooks
    value = {"model": "m", "mcpServers": {"a": {"command": "x", "args": []}}, "empty": {}}
    hooks = draw(users_hooks(kind))
    if hooks is not None:
        value["hooks"] = hooks
    keys = draw(st.lists(st.sampled_from(sorted(value)), unique=True))
    value = {key: value[key] for key in keys}
    writer = Writer(draw, kind.dialect)
    end = draw(st.sampled_from(["", writer.line_end]))
    return kind, f"{writer.gap(0)}{writer.value(value)}{writer.gap(0)}{end}", value


@st.composite
def toml_settings(draw):
    """Return Codex's hooks, a text, and the user's hooks in the text."""
    kind = FORMATS["codex"].hooks
    writer, hooks = TomlWriter(draw), draw(users_hooks(kind))
    made = {event: items for event, items in (hooks or {}).items() if items}
    lines = [writer.line(draw(st.sampled_from(["# top", 'model = "m"', ""])))]
    if draw(st.booleans()):
        lines.append(writer.line('[hooks.state."a:session_end:0:0"]'))
        lines.append(writer.line('trusted_hash = "sha256:1"'))
    for event, items in made.items():
        for item in items:
            lines.append(writer.line(f"[[hooks.{event}]]"))
            lines.append(writer.line(draw(st.sampled_from(["", "# mine"]))))
            for handler in item["hooks"]:
                lines.append(writer.line(f"[[hooks.{event}.hooks]]"))
                lines += writer.members("", handler)
    if draw(st.booleans()):
        lines += [writer.line("[mcp_servers.a]"), writer.line('command = "x"')]
    whole = "".join(lines)
    return kind, whole if draw(st.booleans()) else whole.removesuffix(writer.line_end), made


class _Yaml(YamlWriter):
    """Writes hooks in brackets and without them."""

    def flow(self, value):
        return str(value) if isinstance(value, int) else super().flow(value)

    def hooks(self, hooks):
        """Return the lines of the table."""
        if not hooks:
            return [self.line("", self.one_of("hooks:", "hooks: {}", "hooks: { }"))]
        if not self.draw(st.integers(0, 2)):
            return [self.line("", f"hooks: {self.flow(hooks)}")]
        lines, indent = [self.line("", "hooks:")], self.one_of("  ", "    ")
        for event, items in hooks.items():
            if not items:
                lines.append(self.line(indent, f"{event}:{self.one_of('', ' []', ' [ ]')}"))
            elif self.draw(st.booleans()):
                lines.append(self.line(indent, f"{event}: {self.flow(items)}"))
            else:
                lines.append(self.line(indent, f"{event}:"))
                step = indent + self.one_of("", "  ")
                for item in items:
                    first, *rest = (f"{key}: {self.flow(each)}" for key, each in item.items())
                    lines.append(self.line(step, f"- {first}"))
                    lines += [self.line(step, f"  {each}") for each in rest]
        return lines


@st.composite
def yaml_settings(draw):
    """Return hermes-agent's hooks, a text, and the user's hooks in the text; None for none."""
    kind = FORMATS["hermes"].hooks
    writer, hooks = _Yaml(draw), draw(users_hooks(kind))
    parts = [[writer.line("", "model: m")], [writer.line("", "more:"), writer.line("  ", "a: b")]]
    if hooks is not None:
        parts.append(writer.hooks(hooks))
    parts = draw(st.permutations(parts))[draw(st.integers(0, 1)) :]
    whole = "".join(line for part in parts for line in part)
    if hooks is not None and "hooks:" not in whole:
        hooks = None
    mark = draw(st.sampled_from(["", "", "\ufeff"]))
    whole = mark + whole
    return kind, whole if draw(st.booleans()) else whole.removesuffix(writer.line_end), hooks
