"""The known clients, one entry each: a new client needs an entry here, and nothing else. Pure.

A client expands placeholders in both ``command`` and ``args`` (OpenClaw, Claude Code, Cursor, VS
Code, Gemini CLI) or in neither (Claude Desktop, Codex CLI), so a command with a placeholder still
works as an argument. A leading ``~`` is different: only VS Code is known to expand it in both.
"""

from scopekeeper.mcp_configs import json5, yaml
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.hook_format import HookFormat

_SERVERS = (("mcpServers",),)
_CONFIG = "$XDG_CONFIG_HOME"
_FLATPAK = "$HOME/.var/app"
_VSCODE = (
    f"{_CONFIG}/Code/User", f"{_CONFIG}/Code - Insiders/User", f"{_CONFIG}/VSCodium/User",
    f"{_CONFIG}/Code - OSS/User", "$HOME/.vscode-server/data/User",
    "$HOME/.vscode-server-insiders/data/User", "$XDG_DATA_HOME/code-server/User",
    f"{_FLATPAK}/com.visualstudio.code/config/Code/User",
    f"{_FLATPAK}/com.vscodium.codium/config/VSCodium/User",
)  # fmt: skip
"""The user folders of VS Code and what is built from its source."""
_EXTENSIONS = tuple(f"{user}/globalStorage" for user in (*_VSCODE, f"{_CONFIG}/Cursor/User"))
_DEBUGGED = "VS Code debugs it (dev.debug), which needs its own command"
_SANDBOXED = "VS Code runs it in a sandbox (sandboxEnabled), where systemd is out of reach"


def _of_extension(file: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{file}" for folder in _EXTENSIONS)


CLIENTS = (
    Format("openclaw", json5.JSON5, (("mcp", "servers"),),
           ("$OPENCLAW_CONFIG_PATH", "$OPENCLAW_STATE_DIR/openclaw.json",
            "$OPENCLAW_HOME/.openclaw/openclaw.json", "$HOME/.openclaw/openclaw.json"),
           by_content=True, title="OpenClaw", names=("openclaw.json",),
           programs=("openclaw", "openclaw-gateway"), packages=("openclaw",)),
    Format("claude-desktop", json5.JSON, _SERVERS,
           (f"{_CONFIG}/Claude/claude_desktop_config.json",),
           title="Claude Desktop", names=("claude_desktop_config.json",),
           programs=("claude-desktop",)),
    Format("claude-code", json5.JSON, (*_SERVERS, ("projects", "*", "mcpServers")),
           ("$CLAUDE_CONFIG_DIR/.claude.json", "$HOME/.claude.json"),
           own_keys=("projects",), title="Claude Code", projects=(".mcp.json",),
           names=(".claude.json", ".mcp.json"), folders=(".claude-plugin",), flat=True,
           programs=("claude",), packages=("@anthropic-ai/claude-code",),
           writes_back=(".claude.json",),
           hooks=HookFormat("claude", ("SessionEnd",), ("$CLAUDE_CONFIG_DIR", "$HOME/.claude"),
                            "settings.json", json5.JSON, off=((("disableAllHooks",), True),))),
    Format("cursor", json5.JSONC, _SERVERS, ("$HOME/.cursor/mcp.json",),
           by_content=True, title="Cursor", projects=(".cursor/mcp.json",), folders=(".cursor",),
           programs=("cursor",)),
    Format("vscode", json5.JSONC,
           (("servers",), ("mcp", "servers"), ("settings", "mcp", "servers"),
            ("customizations", "vscode", "mcp", "servers")),
           tuple(f"{user}/{file}" for user in _VSCODE for file in ("mcp.json",
                                                                   "profiles/*/mcp.json")),
           by_content=True, title="VS Code", projects=(".vscode/mcp.json",),
           shared=("*.code-workspace", "devcontainer.json", ".devcontainer.json"),
           names=("*.code-workspace", "devcontainer.json", ".devcontainer.json"),
           folders=(".vscode", "User"),
           programs=("code", "code-insiders", "codium", "code-oss", "code-server"), tilde=True,
           unchanged=((("dev", "debug"), _DEBUGGED), (("sandboxEnabled",), _SANDBOXED))),
    Format("codex", None, (("mcp_servers",),),
           ("$CODEX_HOME/config.toml", "$HOME/.codex/config.toml"),
           title="Codex CLI", projects=(".codex/config.toml",), names=("*.toml",),
           folders=(".codex",), programs=("codex",), packages=("@openai/codex",),
           passes="env_vars",
           hooks=HookFormat("codex", ("SessionStart", "SessionEnd"),
                            ("$CODEX_HOME", "$HOME/.codex"), "config.toml", None,
                            off=((("features", "hooks"), False),
                                 (("features", "codex_hooks"), False)),
                            note="Codex runs a new hook only once you have trusted it: start "
                                 "`codex`, and trust the hooks that it shows.")),
    Format("gemini", json5.COMMENTED, _SERVERS, ("$HOME/.gemini/settings.json",),
           title="Gemini CLI", projects=(".gemini/settings.json",), folders=(".gemini",),
           programs=("gemini",), packages=("@google/gemini-cli",),
           hooks=HookFormat("gemini", ("SessionStart", "SessionEnd"), ("$HOME/.gemini",),
                            "settings.json", json5.COMMENTED,
                            before=(("name", "scopekeeper"), ("type", "command")),
                            after=(("timeout", 10000),),  # milliseconds
                            off=((("hooksConfig", "enabled"), False),))),
    Format("hermes", yaml.YAML_1_1, (("mcp_servers",),),
           ("$HERMES_HOME/config.yaml", "$HOME/.hermes/config.yaml"),
           by_content=True, title="hermes-agent", folders=(".hermes",),
           programs=("hermes", "hermes_cli"),
           hooks=HookFormat("hermes", ("on_session_finalize",), ("$HERMES_HOME", "$HOME/.hermes"),
                            "config.yaml", yaml.YAML_1_1, is_grouped=False, is_shell=False,
                            before=(), after=(("timeout", 10),),
                            note="hermes-agent asks at its terminal, once, before it runs a new "
                                 "hook: start `hermes`, and allow it.")),
    Format("goose", yaml.YAML, (("extensions",),), (f"{_CONFIG}/goose/config.yaml",),
           by_content=True, title="goose", folders=("goose",), programs=("goose",), command="cmd"),
    Format("continue", yaml.YAML, _SERVERS,
           ("$HOME/.continue/config.yaml", "$HOME/.continue/mcpServers/*.yaml"),
           by_content=True, named=True, title="Continue", projects=(".continue/mcpServers/*.yaml",),
           folders=(".continue", ".continue/mcpServers")),
    Format("librechat", yaml.YAML, _SERVERS, by_content=True, title="LibreChat",
           names=("librechat.yaml", "librechat.yml")),
    Format("opencode", json5.JSONC, (("mcp",), ("mcp", "servers")),
           ("$OPENCODE_CONFIG", "$OPENCODE_CONFIG_DIR/opencode.json",
            "$OPENCODE_CONFIG_DIR/opencode.jsonc", f"{_CONFIG}/opencode/opencode.json",
            f"{_CONFIG}/opencode/opencode.jsonc"),
           by_content=True, title="OpenCode", projects=("opencode.json", "opencode.jsonc",
                                       ".opencode/opencode.json", ".opencode/opencode.jsonc"),
           names=("opencode.json", "opencode.jsonc"), programs=("opencode",),
           packages=("opencode-ai",), is_list=True, settings=("timeout",)),
    Format("copilot", json5.JSONC, _SERVERS,
           ("$COPILOT_HOME/mcp-config.json", "$HOME/.copilot/mcp-config.json"),
           title="GitHub Copilot CLI", projects=(".github/mcp.json",), names=("mcp-config.json",),
           folders=(".github",), programs=("copilot",), packages=("@github/copilot",),
           hooks=HookFormat("copilot", ("sessionEnd",), ("$COPILOT_HOME", "$HOME/.copilot"),
                            "hooks/scopekeeper.json", json5.JSON, is_grouped=False, key="bash",
                            after=(("timeoutSec", 10),), beside=(("version", 1),))),
    Format("zed", json5.JSONC, (("context_servers",),), (f"{_CONFIG}/zed/settings.json",),
           by_content=True, title="Zed", projects=(".zed/settings.json",), folders=("zed", ".zed"),
           programs=("zed", "zed-editor", "zeditor"), nested=("path", "args")),
    Format("cline", json5.JSONC, _SERVERS,
           ("$HOME/.cline/data/settings/cline_mcp_settings.json",
            *_of_extension("saoudrizwan.claude-dev/settings/cline_mcp_settings.json")),
           title="Cline", names=("cline_mcp_settings.json",), programs=("cline",)),
    Format("roo", json5.JSONC, _SERVERS,
           _of_extension("rooveterinaryinc.roo-cline/settings/mcp_settings.json"),
           title="Roo Code", projects=(".roo/mcp.json",), names=("mcp_settings.json",),
           folders=(".roo",)),
    Format("windsurf", json5.JSONC, _SERVERS, ("$HOME/.codeium/windsurf/mcp_config.json",),
           title="Windsurf", folders=(".codeium/windsurf",), programs=("windsurf",)),
    Format("lm-studio", json5.JSONC, _SERVERS, ("$HOME/.lmstudio/mcp.json",),
           title="LM Studio", folders=(".lmstudio",), programs=("lm-studio",)),
    Format("kiro", json5.JSONC, _SERVERS, ("$HOME/.kiro/settings/mcp.json",),
           title="Kiro", projects=(".kiro/settings/mcp.json",), folders=(".kiro/settings",),
           programs=("kiro", "kiro-cli")),
    Format("amp", json5.JSONC, (("amp.mcpServers",),), ("$HOME/.config/amp/settings.json",),
           by_content=True, title="Amp", projects=(".amp/settings.json",), folders=("amp", ".amp"),
           programs=("amp",), packages=("@sourcegraph/amp",)),
    Format("crush", json5.JSON, (("mcp",),), (f"{_CONFIG}/crush/crush.json",),
           by_content=True, title="Crush", projects=("crush.json", ".crush.json"),
           names=("crush.json", ".crush.json"), programs=("crush",)),
    Format("qwen", json5.COMMENTED, _SERVERS, ("$HOME/.qwen/settings.json",),
           title="Qwen Code", projects=(".qwen/settings.json",), folders=(".qwen",),
           programs=("qwen",), packages=("@qwen-code/qwen-code",)),
    Format("antigravity", json5.JSONC, _SERVERS,
           ("$HOME/.gemini/antigravity/mcp_config.json", "$HOME/.gemini/config/mcp_config.json"),
           title="Antigravity", projects=(".agents/mcp_config.json",),
           folders=(".gemini/antigravity", ".gemini/config", ".agents"),
           programs=("antigravity", "agy")),
)  # fmt: skip
