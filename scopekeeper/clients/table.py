"""``clients.toml``, compiled: see ``compile``. On the hot path of ``run``: no imports."""

DIGEST = "3b6be818"
"""Changes with the whole table."""
TABLE = (
    # name, programs, variables of the session, variables beside them,
    #     prefix, lane, owner
    ("claude-code", ("claude",), ("CLAUDE_CODE_SESSION_ID",), ("CLAUDECODE",),
     "claude", "main", "starter"),
    ("codex", ("codex",), ("CODEX_SESSION_ID", "CODEX_THREAD_ID"), (),
     "codex", "main", "starter"),
    ("gemini", ("gemini",), (), (),
     "gemini", "main", "starter"),
    ("hermes", ("hermes", "hermes_cli"), ("HERMES_SESSION_ID",), (),
     "hermes", "main", "starter"),
    ("opencode", ("opencode",), (), (),
     "opencode", "main", "starter"),
    ("copilot", ("copilot",), ("COPILOT_AGENT_SESSION_ID",), (),
     "copilot", "main", "starter"),
)  # fmt: skip
VARIABLES = (
    b"CLAUDE_CODE_SESSION_ID",
    b"CODEX_SESSION_ID",
    b"CODEX_THREAD_ID",
    b"HERMES_SESSION_ID",
    b"COPILOT_AGENT_SESSION_ID",
)  # fmt: skip
"""All variables of sessions."""
