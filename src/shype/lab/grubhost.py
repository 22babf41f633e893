"""A lab that is booted by GRUB from its own disk, as often as it falls over (`shype.lab.grub`)."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from shype.base.errors import Unavailable
from shype.lab import builder, console, payload, qemu, rundir, spawn, tpm
from shype.lab.channel import Channel
from shype.lab.host import BOOT_LIMIT, BootFailed, Lab
from shype.lab.qemu import Machine

_READY = "LAB-AGENT"


@dataclass(slots=True)
class GrubHost:
    """A running machine, and how often its dom0 has come up."""

    lab: Lab
    boots: int = 0

    @classmethod
    def up(cls, disk: Path, files: dict[str, bytes | str], *, measured: bool = False) -> Self:
        """Power on a machine with a copy of ``disk``; ``measured``: by UEFI, with a new TPM.

        Raises as `Lab.up`, and Unavailable (``lab.no-firmware``, ``lab.no-tpm``).
        """
        if measured and not qemu.FIRMWARE.is_file():
            raise Unavailable("lab.no-firmware", f"there is no UEFI firmware {qemu.FIRMWARE}",
                              "apt-get install ovmf")
        built = builder.load()
        machine = Machine(str(built.xen), str(built.vmlinux), str(built.dom0_initrd),
                          str(built.image), None, "enforcing", 2048, 768, False, (), (),
                          boot="boot.img", measured=measured)
        began = time.monotonic()
        with rundir.claimed(f"grub-{time.time_ns() % 10**12}") as directory:
            payload.write(directory / "payload.img", guest_initrd=built.guest_initrd, files=files)
            qemu.copy(disk, directory / "boot.img")
            qemu.overlay(directory / "disk.qcow2", Path(machine.image), "raw")
            if measured:
                shutil.copy(qemu.VARIABLES, directory / qemu.VARIABLES.name)
                tpm.start(directory)
            process = spawn.start(machine.command(incoming=None), cwd=directory,
                                  log=directory / "qemu.log", with_parent=True)
            record = rundir.Record(
                directory.name, process.pid, spawn.start_time(process.pid) or 0, spawn.boot_id(),
                time.time(), "enforcing", "", "", True, time.monotonic() - began, False)
            record.save(directory)
            return cls(Lab(directory, record, machine))

    def wait(self, limit: float = BOOT_LIMIT) -> str:
        """Wait until dom0 is up once more than before; what the console said since.

        Panics on the way are no failure here. Raises BootFailed (``lab.no-boot``).
        """
        deadline = time.monotonic() + limit
        while (log := self.lab.console()).count(_READY) <= self.boots:
            if not self.lab.alive() or time.monotonic() > deadline:
                raise BootFailed("lab.no-boot", "dom0 does not come up; last on the console:\n"
                                 + console.last_words(log, 15), log)
            time.sleep(0.1)
        parts = log.split(_READY)
        since = _READY.join(parts[self.boots:-1])
        self.boots = len(parts) - 1
        self._connect()
        return since

    def _connect(self) -> None:
        """A new connection: the agent of the boot before is gone."""
        if self.lab._channel is not None:
            self.lab._channel.close()
        deadline = time.monotonic() + 30
        while True:
            self.lab._channel = Channel(self.lab.directory)
            try:
                self.lab._channel.ask("ping", timeout=3)
                break
            except Unavailable:
                self.lab._channel.close()
                if time.monotonic() > deadline:
                    raise
        self.lab._channel.ask("payload", timeout=BOOT_LIMIT)
        self.lab._channel.ask("settime", time=time.time())

    def reboot(self) -> None:
        """Have dom0 reboot the machine, everything on its disks."""
        self.lab.run(["sh", "-c", "sync; umount /boot; mount -t ext4 -o sync /dev/vdc1 /boot; "
                      "sync; (sleep 1; busybox reboot -f) >/dev/null 2>&1 &"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.lab.down()
