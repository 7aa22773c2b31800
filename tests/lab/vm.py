"""Boot an image as a virtual machine: its own kernel, every controller, slow without KVM."""

import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .host import DIES_WITH_PARENT, Argv, run_logged, tail
from .image import Image
from .rundir import Run

MEMORY = "2G"
PREPARE_LIMIT_S = 600.0
FATAL = ("Kernel panic", "lab: no root disk")


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """One virtual machine on a throwaway layer over the image's disk."""

    run: Run
    image: Image
    smp: int = 2
    interactive: bool = False

    @property
    def boot_limit(self) -> float:
        return 900.0

    @property
    def _disk(self) -> Path:
        return self.run.scratch / "root.qcow2"

    @property
    def _input(self) -> Path:
        return self.run.scratch / "input.tar"

    @property
    def _artifacts(self) -> Path:
        return self.run.scratch / "artifacts.tar"

    def start(self) -> subprocess.Popen[bytes]:
        qcow2: Argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b"]
        tar: Argv = ["tar", "--numeric-owner", "-C", self.run.upper, "-cf", self._input, "."]
        for tool in ([*qcow2, self.image.disk, self._disk], tar):
            run_logged(tool, self.run.host_log, PREPARE_LIMIT_S)
        argv = [*DIES_WITH_PARENT, *self._qemu()]
        if self.interactive:
            return subprocess.Popen(argv)
        with self.run.host_log.open("ab") as errors:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )

    def _qemu(self) -> list[str]:
        # QEMU 7.2's emulation of cmpxchg16b makes 6.12 kernels panic at boot; 64-bit Debian
        # does without the instruction.
        accel = ["kvm"] if kvm_works() else ["tcg,thread=multi"]
        argv = [
            *("qemu-system-x86_64", "-accel", *accel, "-cpu", "max,-cx16", "-m", MEMORY),
            *("-smp", str(self.smp), "-nodefaults", "-display", "none"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)),
            *_disk_options("labroot", f"file={self._disk},format=qcow2,cache=unsafe"),
            *_disk_options("labin", f"file={self._input},format=raw,readonly=on"),
            *("-device", "virtio-serial-pci"),
            *_port_options("lab.log", self.run.log),
            *_port_options("lab.events", self.run.events),
            *_port_options("lab.journal", self.run.out / "journal-live.txt"),
            *_port_options("lab.artifacts", self._artifacts),
        ]
        kernel = "console=ttyS0 quiet panic=0 mitigations=off"
        if self.interactive:
            argv += ["-chardev", "stdio,id=console,mux=on,signal=off", "-mon", "chardev=console"]
        else:
            argv += ["-chardev", f"file,id=console,path={self.run.console}"]
            kernel += " systemd.wants=lab-run.service systemd.mask=serial-getty@ttyS0.service"
        return [*argv, "-serial", "chardev:console", "-append", kernel]

    def wants_another_boot(self, returncode: int) -> bool:
        return False  # a guest's reboot happens inside QEMU

    def trouble(self) -> str | None:
        end = tail(self.run.console, 200)
        return next((f"the guest failed: {text}" for text in FATAL if text in end), None)

    def finish(self) -> None:
        if self._artifacts.exists() and self._artifacts.stat().st_size:
            tar = ("tar", "-xf", self._artifacts, "-C", self.run.out, "--no-same-owner")
            with self.run.host_log.open("ab") as errors:
                subprocess.run(tar, stderr=errors, check=False)


def _disk_options(name: str, drive: str) -> list[str]:
    device = f"virtio-blk-pci,drive={name},serial={name}"
    return ["-drive", f"{drive},if=none,id={name}", "-device", device]


def _port_options(name: str, file: Path) -> list[str]:
    identifier = name.replace(".", "-")
    device = f"virtserialport,chardev={identifier},name={name}"
    return ["-chardev", f"file,id={identifier},path={file}", "-device", device]


def kvm_works(device: Path = Path("/dev/kvm"), cpus: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the kernel can make a virtual machine with the processor's help.

    The device alone says nothing, and KVM without VMX or SVM (inside some cloud machines) fails
    on ordinary instructions while the guest's kernel unpacks itself.
    """
    if not {"vmx", "svm"} & set(cpus.read_text().split()):
        return False
    create_vm = 0xAE01  # KVM_CREATE_VM of linux/kvm.h
    try:
        opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.close(fcntl.ioctl(opened, create_vm, 0))
    except OSError:
        return False
    finally:
        os.close(opened)
    return True
