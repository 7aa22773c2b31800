"""The programs in ``bin/``: pip's scripts, and the fast launchers that replace them.

``direct`` compiles the hot path into one file; its lists name every module of it, in the order of
import. Imports ``launch`` and ``whole_file``; ``install``, ``doctor`` and the build import it.
"""
