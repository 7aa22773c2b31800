"""What is known of one client: its files, their language, and how it writes a server. Pure.

The fields from ``places`` on are the keys of ``[NAME.servers]`` in ``clients.toml``, except for
what is in the client's own table and ``hooks``.
"""

from dataclasses import dataclass

from scopekeeper.mcp_configs.hook_format import HookFormat
from scopekeeper.mcp_configs.json5 import Dialect
from scopekeeper.mcp_configs.yaml import YamlDialect


@dataclass(frozen=True, slots=True)
class Format:
    """One client, with the format of its configuration."""

    name: str
    dialect: Dialect | YamlDialect | None
    """None for TOML."""
    places: tuple[tuple[str, ...], ...]
    """The keys down to each table of servers; ``*`` matches every key."""
    files: tuple[str, ...] = ()
    """The paths of a user's own files; each starts with a variable and may have wildcards."""
    title: str = ""
    """The client's name as people write it."""
    projects: tuple[str, ...] = ()
    """Its files in the folder of a project; may have wildcards."""
    shared: tuple[str, ...] = ()
    """Other names of files that a team shares; ``wrap`` rewrites them only when they are named."""
    names: tuple[str, ...] = ()
    """The file names that no other client uses, with wildcards."""
    own_keys: tuple[str, ...] = ()
    """The keys at the top of its file that no other client uses."""
    by_content: bool = False
    """Whether a file that nothing else shows is its, if it has servers where this client has."""
    folders: tuple[str, ...] = ()
    """The last part of the folders whose files are all its own."""
    programs: tuple[str, ...] = ()
    """The file names of its program, or of the script that node runs."""
    packages: tuple[str, ...] = ()
    """Its packages in node_modules."""
    tilde: bool = False
    """Whether the client expands a leading ``~`` in args as it does in command."""
    command: str = "command"
    """The key of a server's program."""
    arguments: str = "args"
    """The key of the list of its arguments."""
    command_is_list: bool = False
    """Whether command is an array of the program and its arguments."""
    nested: tuple[str, ...] = ()
    """The keys of program and arguments if command may be an object that has them."""
    named: bool = False
    """Whether the servers are a list of objects, each with a name."""
    flat: bool = False
    """Whether the keys of a file may be the servers themselves."""
    settings: tuple[str, ...] = ()
    """Keys beside the servers that are none, unless they have the keys of one."""
    unchanged: tuple[tuple[tuple[str, ...], str], ...] = ()
    """Keys of a server that ``wrap`` may not change, each with the reason."""
    refused: str = ""
    """Why no server of this file may be wrapped; '' if they may."""
    writes_back: tuple[str, ...] = ()
    """The names of files that the running client writes from its memory."""
    passes: str = ""
    """The key of a server that lists the variables passed on to it; '' if it gets all of them."""
    projects_in: str = ""
    """The key at the top of the user's own files that has the folders of projects as keys."""
    workspaces: tuple[str, ...] = ()
    """The paths of JSON files that each name the folder of a project, as a URL in ``folder``."""
    plugins: tuple[tuple[str, str], ...] = ()
    """The paths of files of plugins, in JSON, each with the client's word for such a plugin."""
    hooks: HookFormat | None = None
    """Its hooks; None if none are registered."""
