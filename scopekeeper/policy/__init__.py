"""What should happen to the scopes of a lane: rules read from TOML, by lane class."""
