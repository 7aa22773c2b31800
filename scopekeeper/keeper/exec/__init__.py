"""The keeper's side of runs: it holds terminals, records what they say, and serves clients."""
