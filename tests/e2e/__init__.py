"""The real OpenClaw gateway, as a user runs it, without and with scopekeeper."""
