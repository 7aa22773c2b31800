"""The real MCP clients from npm and PyPI, as people run them, without and with scopekeeper."""
