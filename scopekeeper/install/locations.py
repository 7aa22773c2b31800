"""Where a manager, its bus, man(1) and the shells look for our files and a distribution's. Pure.

Sources: systemd.unit(5), dbus-daemon(1), manpath(5), bash-completion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scopekeeper.install import shipped

UNIT_FOLDERS = {
    "system": ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
               "/usr/lib/systemd/system", "/lib/systemd/system"),
    "user": ("~/.config/systemd/user", "/etc/systemd/user", "/run/systemd/user",
             "~/.local/share/systemd/user", "/usr/local/lib/systemd/user",
             "/usr/lib/systemd/user"),
}  # fmt: skip
"""The folders for units; earlier folders override later ones."""
_BUS = {
    "system": ("/usr/local/share/dbus-1/system-services", "/usr/share/dbus-1/system-services"),
    "user": ("~/.local/share/dbus-1/services", "/usr/local/share/dbus-1/services",
             "/usr/share/dbus-1/services"),
}  # fmt: skip
_POLICY = ("/etc/dbus-1/system.d", "/usr/share/dbus-1/system.d")


@dataclass(frozen=True, slots=True)
class Piece:
    """One file to install."""

    name: str
    """Its path below ``folder``."""
    text: str
    folder: str
    """The folder to write it to."""
    base: str
    """uninstall removes empty parent folders below this one."""
    elsewhere: tuple[str, ...]
    """The folders in which a distribution installs it."""
    on_the_bus: bool = False
    is_document: bool = False
    """A manual page or completion: nothing depends on it, so anybody's copy stays."""
    target: str = ""
    """For a link, the path that it leads to; '' for a file."""

    @property
    def path(self) -> str:
        """Its whole path."""
        return f"{self.folder}/{self.name}"

    @property
    def is_unit(self) -> bool:
        """Whether the manager has to reload for it."""
        return not (self.on_the_bus or self.is_document or self.target)


@dataclass(frozen=True, slots=True)
class Locations:
    """The folders of one manager."""

    manager: str
    """``system`` or ``user``."""
    units: str
    home: str
    """'' for the system."""
    share: str
    """The folder for manual pages and completions."""

    @property
    def shells_base(self) -> str:
        """The folder below which that of the shells is made."""
        return "/usr/local/lib" if self.manager == "system" else self.share

    @property
    def shells(self) -> str:
        """The folder of a ``bash`` that leads to scopekeeper-shell."""
        return f"{self.shells_base}/scopekeeper/shells"

    def drop_in(self, unit: str) -> str:
        """Return the path of the drop-in for a gateway's unit."""
        return f"{self.units}/{unit}.d/{shipped.DROP_IN}"


def find(manager: str, environment: Mapping[str, str]) -> Locations:
    """Return the folders of a manager; that of a user needs HOME."""
    if manager == "system":
        return Locations("system", UNIT_FOLDERS["system"][0], "", "/usr/local/share")
    home = environment["HOME"].rstrip("/")
    share = environment.get("XDG_DATA_HOME", "")
    share = share if share.startswith("/") else f"{home}/.local/share"
    return Locations("user", f"{home}/.config/systemd/user", home, share)


def pieces(
    places: Locations, program: str, documents: Mapping[str, str], beside: Sequence[str] = ()
) -> list[Piece]:
    """Return all files to install for a program; raises ConfigError.

    documents are by their path below a ``share`` folder; beside are more such folders that man and
    the shells search.
    """

    def home(folders: Sequence[str]) -> tuple[str, ...]:
        return tuple(each.replace("~", places.home, 1) for each in folders)

    def base(folder: str) -> str:
        return places.home if places.manager == "user" else folder

    found = []
    own = places.units
    others = tuple(each for each in home(UNIT_FOLDERS[places.manager]) if each != own)
    names = {name: name for name in shipped.UNITS}
    if places.manager == "system":
        names |= {name: f"system/{name}" for name in shipped.SYSTEM_UNITS}
    for name, source in names.items():
        text = shipped.for_program(shipped.read(source), program)
        found.append(Piece(name, text, own, base(own), others))
    first, *rest = home(_BUS[places.manager])
    bus_base = base(first.removesuffix("/dbus-1/system-services"))
    text = shipped.read(shipped.BUS_SERVICE)
    found.append(Piece(shipped.BUS_SERVICE, text, first, bus_base, tuple(rest), on_the_bus=True))
    if places.manager == "system":
        first, *rest = _POLICY
        text = shipped.read(shipped.BUS_POLICY)
        found.append(Piece(shipped.BUS_POLICY, text, first, first, tuple(rest), on_the_bus=True))
    shares = tuple(
        each for each in ("/usr/local/share", "/usr/share", *beside) if each != places.share
    )
    for name, text in documents.items():
        top = _top_of(places, name)
        found.append(Piece(name, text, places.share, top, shares, is_document=True))
    return found


def _top_of(places: Locations, document: str) -> str:
    """Return the base of a document: folders below it exist only for documents of ours."""
    if places.home and places.share.startswith(f"{places.home}/"):
        return places.home
    # Debian ships /usr/local/share/man, empty
    return f"{places.share}/man" if document.startswith("man/") else places.share
