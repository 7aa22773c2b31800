"""Commands with a terminal that the keeper holds: they outlive whoever started them."""
