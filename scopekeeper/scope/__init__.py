"""What a scope is: names, records, and what is known at one moment."""
