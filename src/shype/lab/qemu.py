"""QEMU's command line for a lab, and its monitor (QMP)."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from shype.base import child
from shype.base.errors import ShypeError, Unavailable
from shype.lab import tpm

PROGRAM = "qemu-system-x86_64"
#: An IOMMU that remaps interrupts (Intel VT-d, which Xen drives under an AMD processor as well),
#: and two PCI cards to give to guests, 0000:00:05.0 and 0000:00:06.0.
IOMMU = ("-device", "intel-iommu,intremap=on", "-device", "edu,addr=05.0",
         "-device", "edu,addr=06.0")
#: UEFI firmware that measures, and its variables, of which each machine has a copy.
FIRMWARE, VARIABLES = (Path("/usr/share/OVMF") / name
                       for name in ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"))
#: dom0's command line. QEMU finds translated code by its address: where each process has its
#: libraries elsewhere, each translates them anew, which is a third of all that dom0 does, and half
#: of a short command.
KERNEL_ARGS = "console=hvc0 quiet norandmaps"
#: Host-side clients at a time; each has a port of its own.
PORTS = 4


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, apart from where its files are: what a snapshot fits."""

    xen: str
    vmlinux: str
    dom0_initrd: str
    image: str
    policy: str | None
    flask: str
    memory: int
    dom0_memory: int
    icount: bool
    xen_args: tuple[str, ...]
    dom0_args: tuple[str, ...]
    iommu: bool = False
    #: A disk in the lab's directory that is booted by firmware and GRUB, instead of ``xen`` and the
    #: modules; such a machine also starts again by itself.
    boot: str = ""
    #: UEFI instead of BIOS, with the TPM of `shype.lab.tpm`, so that the boot is measured.
    measured: bool = False

    @property
    def own(self) -> tuple[str, ...]:
        """Files in the lab's directory that the machine writes, besides its disk."""
        return (*((self.boot,) if self.boot else ()),
                *((VARIABLES.name,) if self.measured else ()))

    def xen_line(self) -> str:
        """Xen's command line.  bootscrub=0 keeps unused memory zero, and so snapshots small."""
        return " ".join((
            f"dom0_mem={self.dom0_memory}M,max:{self.dom0_memory}M", "loglvl=all",
            "guest_loglvl=all", "com1=115200,8n1", "console=com1", f"flask={self.flask}", "argo=1",
            "bootscrub=0", "spec-ctrl=eager-fpu", *self.xen_args,
        ))

    def command(self, *, incoming: Path | None) -> list[str]:
        """The command, to be run in the lab's directory.

        PV and PVH guests both run without KVM: QEMU emulates SVM with nested
        paging.  rdtscp is hidden because a PVH guest does not boot with it,
        smap because it only costs time.
        """
        modules = [f"{_quoted(self.vmlinux)} {KERNEL_ARGS} {' '.join(self.dom0_args)}".strip(),
                   _quoted(self.dom0_initrd)]
        if self.policy is not None:
            modules.append(_quoted(self.policy))
        words = [
            PROGRAM, "-accel", "tcg,thread=single,tb-size=512", "-machine",
            *(("q35", *IOMMU) if self.iommu else ("pc",)),
            "-cpu", "max,-smap,-rdtscp", "-m", str(self.memory), "-smp", "1",
            "-display", "none", "-nodefaults", "-no-user-config",
            *(() if self.boot else ("-no-reboot",)),
            "-serial", "file:serial.log", "-qmp", "unix:qmp,server=on,wait=off",
            # What dom0 flushes need not outlive this machine: the disk is thrown away with the lab.
            "-drive", "file=disk.qcow2,if=virtio,format=qcow2,cache=unsafe",
            "-drive", "file=payload.img,if=virtio,format=raw,readonly=on",
            "-device", f"virtio-serial-pci,id=vs,max_ports={PORTS + 1}",
        ]
        for number in range(1, PORTS + 1):
            words += ["-chardev", f"socket,path=port{number},server=on,wait=off,id=port{number}",
                      "-device", f"virtserialport,chardev=port{number},name=shype.lab.{number}"]
        if self.boot:
            # In a high slot, so that it is the last of dom0's disks.
            words += ["-drive", f"file={self.boot},if=none,id=boot,format=raw,cache=unsafe",
                      "-device", "virtio-blk-pci,drive=boot,bootindex=0,addr=1e"]
        else:
            words += ["-kernel", self.xen, "-append", self.xen_line(),
                      "-initrd", ",".join(modules)]
        if self.measured:
            words += [
                "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}",
                "-drive", f"if=pflash,format=raw,file={VARIABLES.name}",
                "-chardev", f"socket,id=tpm,path={tpm.SOCKET}",
                "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]
        if self.icount:
            words += ["-icount", "shift=0,sleep=off"]
        if incoming is not None:
            words += ["-incoming", f"exec:cat {shlex.quote(str(incoming))}"]
        return words


def _quoted(path: str) -> str:
    """A path in the list of boot modules: commas are doubled, a blank would end it."""
    if " " in path:
        raise Unavailable("lab.path-blank", f"a boot module's path has a blank: {path}",
                          "point XDG_CACHE_HOME to a directory without blanks in its name")
    return path.replace(",", ",,")


def version() -> str:
    """QEMU's version line. Raises Unavailable (``tool.missing``)."""
    return child.run([PROGRAM, "--version"]).out.splitlines()[0]


def overlay(path: Path, backing: Path, backing_format: str) -> None:
    """Make ``path``, a qcow2 disk that keeps only what differs from ``backing``."""
    child.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format,
               path])


def copy(image: Path, to: Path) -> None:
    """Copy a raw disk, most of which is empty."""
    child.run(["cp", "--sparse=always", image, to])


def connect(directory: Path, name: str, timeout: float = 10) -> socket.socket:
    """Connect to the socket ``name`` in ``directory`` (whose path may be longer than sun_path)."""
    deadline = time.monotonic() + timeout
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            link = socket.socket(socket.AF_UNIX)
            try:
                link.connect(f"/proc/self/fd/{handle}/{name}")
                return link
            except OSError as error:
                link.close()
                if time.monotonic() > deadline:
                    raise Unavailable("lab.no-answer", f"QEMU does not answer on {name}: {error}"
                                      ) from error
                time.sleep(0.01)
    finally:
        os.close(handle)


class MonitorError(ShypeError):
    """QEMU refused a monitor command."""


class Monitor:
    """A QMP client; a context manager, because QEMU serves one at a time."""

    def __init__(self, directory: Path) -> None:
        self._link = connect(directory, "qmp")
        self._link.settimeout(60)
        self._file = self._link.makefile("rb")
        self._read()
        self.command("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            self._link.close()

    def _read(self) -> dict[str, object]:
        try:
            line = self._file.readline()
        except OSError as error:
            raise MonitorError("lab.monitor", f"QEMU's monitor does not answer: {error}") from error
        if not line:
            raise MonitorError("lab.monitor", "QEMU has ended")
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    def command(self, name: str, **arguments: object) -> object:
        """Run a command. Raises MonitorError (``lab.monitor``)."""
        request = {"execute": name,
                   "arguments": {key.replace("_", "-"): v for key, v in arguments.items()}}
        self._link.sendall(json.dumps(request).encode() + b"\n")
        while True:
            reply = self._read()
            if "error" in reply:
                raise MonitorError("lab.monitor", f"QEMU refused {name}: {reply['error']}")
            if "return" in reply:
                return reply["return"]

    def status(self) -> str:
        """The machine's run state: ``running``, ``paused``, ``inmigrate``, ..."""
        value = self.command("query-status")
        assert isinstance(value, dict)
        return str(value["status"])

    def save(self, path: Path) -> None:
        """Write the machine's state to ``path``; the machine is stopped afterwards."""
        self.command("stop")
        # the default limit of 128 MB/s would be most of the time it takes
        self.command("migrate-set-parameters", max_bandwidth=10**11)
        self.command("migrate", uri=f"exec:cat > {shlex.quote(str(path))}")
        while True:
            value = self.command("query-migrate")
            assert isinstance(value, dict)
            state = value.get("status")
            if state == "completed":
                return
            if state in ("failed", "cancelled"):
                raise MonitorError("lab.monitor", f"saving failed: {value.get('error-desc')}")
            time.sleep(0.02)
