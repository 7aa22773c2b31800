"""The Python API: members of a scope as children of a gateway.

- ``cohort``: ``Cohort``, ``spawn`` and ``spawn_async``.
- ``process``: ``Process``, a member that was started; ``popen_interface`` is what it has of
  ``subprocess.Popen``. ``aio`` is the same for asyncio.
- ``options``, ``popen_arguments``: the arguments of both, read and checked.
- ``child``, ``posix_spawn``: a child that is born in its leaf of the scope.
- ``birthplace``: a leaf for a child that the gateway starts itself.
- ``launcher``: the other way, an interpreter that contains itself and becomes the command.
- ``stop_members``: stops members and proves it; ``launched_members`` finds what they launched, and
  ``remains`` names what is left.
- ``limits``: what a process without descriptors gets.
- ``public``: the names that ``scopekeeper`` has.
- ``operations``: ``list_scopes``, ``stop`` and ``wait``, of whatever this user runs.

Users import from ``scopekeeper`` and ``scopekeeper.mcp`` only. The files here may import the rooms
below (``launch``, ``lifecycle``, ``scope``, ``kernel`` and so on), and of the standard library and
the MCP SDK only what is public.
"""
