"""Build a suite's image, once for each content of everything that goes into it."""

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .host import Argv, Home, LabError, Note, in_private_namespaces, locked, remove_tree, run_logged
from .suites import KERNEL, PACKAGES, SUITES, Suite

HERE = Path(__file__).resolve().parent
BUILD_LIMIT_S = 3600.0
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Every tool of Python's asks another variable where the certificates are.
CERTIFICATE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
HOST_PIP_VARIABLES_KEPT = ("PIP_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image: a root folder, the same as an ext4 file, and a kernel with initramfs."""

    suite: str
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def disk(self) -> Path:
        return self.folder / "root.ext4"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    @property
    def info(self) -> Path:
        return self.folder / "info.json"

    @property
    def lock(self) -> Path:
        return self.folder.with_name(self.folder.name + ".lock")


def content_hash(suite: Suite, here: Path = HERE) -> str:
    """Ten hex digits that change when any input of the image changes."""
    recipe = [str(word) for word in _mmdebstrap(suite, Path("inputs"), Path("root"))]
    digest = hashlib.sha256(json.dumps([suite.name, recipe]).encode())
    inputs = [here / "requirements.txt", *sorted((here / "guest/image").iterdir())]
    for path in inputs:
        digest.update(b"\0" + path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:10]


def locate(suite: Suite, home: Home) -> Image:
    """The image of ``suite`` as it must be now, built or not."""
    return Image(suite.name, home.images / f"{suite.name}-{content_hash(suite)}")


def build(
    suite: Suite, home: Home, note: Note, stop: threading.Event, force: bool = False
) -> Image:
    """Return the suite's image; build it first unless it is in the cache."""
    image = locate(suite, home)
    if image.info.exists() and not force:
        return image
    # A second builder of the same image waits, then finds it; by then the first one may hold it for
    # as long as its machine runs.
    with locked(image.lock, stop, needless=lambda: image.info.exists() and not force):
        if image.info.exists() and not force:
            return image
        work = image.folder.with_name(f"building-{image.folder.name}")
        remove_tree(work)
        work.mkdir(parents=True)
        note(f"building {image.folder.name}; log: {work / 'build.log'}")
        _build_into(work, suite, stop)
        remove_tree(image.folder)
        work.rename(image.folder)
    note(f"built {image.folder.name}: {image.info.read_text().strip()}")
    return image


def _build_into(work: Path, suite: Suite, stop: threading.Event) -> None:
    started, log, root = time.monotonic(), work / "build.log", work / "root"
    limit = BUILD_LIMIT_S
    inputs = work / "inputs"
    shutil.copytree(HERE / "guest/image", inputs)
    shutil.copy(HERE / "requirements.txt", inputs)
    shutil.copy(CERTIFICATES, inputs / "ca.crt")
    argv = in_private_namespaces(_mmdebstrap(suite, inputs, root))
    run_logged(argv, log, limit, stop, environment(os.environ))
    made = root / "lab-build/out"
    for name in ("vmlinuz", "initrd.d", "freeze.txt", "versions"):
        shutil.move(made / name, work / name)
    remove_tree(root / "lab-build")
    pack = 'cd "$1" && find . | cpio --quiet -o -H newc | zstd -q -3 -o "$2"'
    run_logged(["sh", "-c", pack, "sh", work / "initrd.d", work / "initrd"], log, limit, stop)
    remove_tree(work / "initrd.d")
    # A sparse file: 6 GB is what a guest may fill, not what the host gives at once.
    mke2fs: Argv = ["mke2fs", "-q", "-t", "ext4", "-L", "lab", "-d", root, work / "root.ext4", "6G"]
    run_logged(mke2fs, log, limit, stop)
    size = subprocess.run(["du", "-sm", root], capture_output=True, text=True, check=True).stdout
    pairs = (line.split(maxsplit=1) for line in (work / "versions").read_text().splitlines())
    info = {
        "suite": suite.name,
        **dict(pairs),
        "megabytes": int(size.split()[0]),
        "build_s": round(time.monotonic() - started),
    }
    (work / "info.json").write_text(json.dumps(info) + "\n")


def _mmdebstrap(suite: Suite, inputs: Path, root: Path) -> Argv:
    argv: Argv = [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
        f"--include={','.join((*PACKAGES, *suite.packages))}",
        *('--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'),
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")),
        "--skip=cleanup/apt",  # the hooks below still use the package lists
        f'--customize-hook=cp -r {shlex.quote(str(inputs))} "$1/lab-build"',
    ]
    for step in ("kernel", "python", "system"):
        argv.append(f'--customize-hook=chroot "$1" bash /lab-build/{step} {KERNEL}')
    if suite.moving:
        argv.append('--aptopt=Acquire::Check-Valid-Until "false"')
    if suite.backports:
        argv += [f"--setup-hook={hook}" for hook in _backports_hooks(suite)]
    return [*argv, suite.release, root]


def _backports_hooks(suite: Suite) -> list[str]:
    """Add the backports of the archive that mmdebstrap chose, and prefer the given packages."""
    release = f"{suite.release}-backports"
    sources = " ".join(f"src:{name}" for name in suite.backports)
    pin = f"Package: {sources}\\nPin: release n={release}\\nPin-Priority: 990\\n"
    line = rf"s/^deb (.* )?(\S+) {suite.release} main.*/deb \1\2 {release} main/p"
    return [
        f'cd "$1/etc/apt" && sed -nE "{line}" sources.list > sources.list.d/backports.list',
        'test -s "$1/etc/apt/sources.list.d/backports.list"',
        'mkdir -p "$1/etc/apt/preferences.d"',
        f'printf "{pin}" > "$1/etc/apt/preferences.d/backports"',
    ]


def environment(host: Mapping[str, str], certificates: str = "/lab-build/ca.crt") -> dict[str, str]:
    """The host's environment without what names files that the chroot does not have."""
    env = {
        name: value
        for name, value in host.items()
        if not name.startswith("PIP_") or name in HOST_PIP_VARIABLES_KEPT
    }
    env.pop("SSL_CERT_DIR", None)
    return env | dict.fromkeys(CERTIFICATE_VARIABLES, certificates)


def require_certificates() -> None:
    """The guests trust what the host trusts."""
    if not CERTIFICATES.exists():
        raise LabError(f"{CERTIFICATES} is missing: apt-get install ca-certificates")


def remove_outdated(home: Home, also: tuple[Image, ...] = ()) -> None:
    """Remove the images whose inputs have changed since, except those in use.

    also are images that no suite asks for, and that are current.
    """
    current = {image.lock for image in (*(locate(suite, home) for suite in SUITES), *also)}
    for lock in set(home.images.glob("*.lock")) - current:
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            name = lock.name.removesuffix(".lock")
            for folder in (lock.with_name(name), lock.with_name(f"building-{name}")):
                remove_tree(folder)
            lock.unlink()
