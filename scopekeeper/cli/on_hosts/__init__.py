"""``-H``: asks other hosts by ssh, and prints what they answer as one."""
