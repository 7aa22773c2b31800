"""The real program on a real systemd, driven at random beside a small model of what must exist.

``shadow`` is the model, ``rig`` the real thing, ``moves`` what is done to both, ``seen`` what is
there, ``compare`` the differences, ``example`` the steps so far.
"""
