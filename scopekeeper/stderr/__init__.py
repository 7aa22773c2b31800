"""What members write to stderr: files in the state folder, and notes of what the journal has.

Imports only the ground, the kernel's rooms and ``state``; ``files`` is for launches too.
"""
