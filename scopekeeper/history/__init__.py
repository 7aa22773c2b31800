"""What ended, when and why: one row for each ended member, in the state directory."""
