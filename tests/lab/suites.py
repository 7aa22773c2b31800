"""The Debian suites a machine can be built from, and the packages it gets."""

from dataclasses import dataclass

from .host import LabError


@dataclass(frozen=True, slots=True)
class Suite:
    """One line of the table.

    ``name`` is what the user types, ``release`` what the archive calls it.  ``backports`` are
    source packages taken from the release's backports.  ``moving`` marks a release that is not
    out yet: its mirror may serve an index past its validity date.  ``packages`` are had in
    addition to those of every suite.
    """

    name: str
    release: str
    backports: tuple[str, ...] = ()
    moving: bool = False
    packages: tuple[str, ...] = ()


# What our own .deb depends on, as the suite's archive has it, and what shows its manual.
DEPENDENCIES = (
    *("python3-click", "python3-dbus-next", "python3-prometheus-client", "python3-psutil"),
    *("python3-pyroute2", "python3-pystemd", "python3-pyte", "man-db"),
)

# A real browser for the page that `report` writes, and glyphs for what it shows.
BROWSER = ("chromium", "fonts-dejavu-core")

# systemd's killer in user space, for what it chooses among our cgroups.
OOMD = ("systemd-oomd",)


SUITES: tuple[Suite, ...] = (
    Suite("bookworm", "bookworm"),
    Suite("bookworm-backports", "bookworm", ("systemd", "linux", "linux-signed-amd64")),
    Suite("trixie", "trixie"),
    Suite("forky", "forky", moving=True),
    Suite("bookworm-deb", "bookworm", packages=DEPENDENCIES),
    Suite("trixie-deb", "trixie", packages=DEPENDENCIES),
    Suite("trixie-browser", "trixie", packages=BROWSER),
    Suite("trixie-oomd", "trixie", packages=OOMD),
)

# The suite's own kernel is not among them: it is unpacked, never installed (guest/image/kernel).
PACKAGES: tuple[str, ...] = (
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "dbus-user-session", "udev", "kmod"),
    *("procps", "iproute2", "util-linux", "passwd", "login", "attr", "strace", "git", "make"),
    *("sudo", "dtach", "python3", "python3-venv", "ca-certificates", "zstd", "xz-utils"),
    *("e2fsprogs", "less", "tmux", "vim-tiny", "conmon"),
    *("podman", "crun", "uidmap", "busybox-static", "fuse-overlayfs"),
    *("cron", "openssh-client", "dropbear-bin"),
)

KERNEL = "linux-image-cloud-amd64"


def find(name: str) -> Suite:
    """Return the suite called ``name``; LabError names the known ones."""
    for suite in SUITES:
        if suite.name == name:
            return suite
    known = ", ".join(suite.name for suite in SUITES)
    raise LabError(f"unknown suite {name!r}; known: {known}")
