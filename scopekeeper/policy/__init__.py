"""The policy: rules for the scopes of a lane, from TOML files, by lane class.

A launch reads the compiled rules (``cached``, ``cache_format``, ``files``: builtin modules only);
``load`` and ``rules`` parse the TOML. Imports the ground floor and ``scope``; ``lifecycle``,
``launch``, ``keeper``, ``doctor`` and ``cli`` import it.
"""
