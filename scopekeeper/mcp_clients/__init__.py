"""What other programs keep in their files, rewritten so that what they start is contained."""
