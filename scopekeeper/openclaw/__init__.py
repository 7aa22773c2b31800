"""OpenClaw's gateway: what is put where to contain it, and what can be seen of it."""
