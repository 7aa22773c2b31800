"""What ``metrics`` and a keeper that serves metrics publish: read, bounded, and written down."""
