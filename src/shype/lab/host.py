"""A running lab: `Lab.up` gives a Xen host that enforces a policy, in seconds."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from shype.base.child import Completed
from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.base.files import write_atomic
from shype.lab import (
    builder,
    channel,
    console,
    handover,
    paths,
    payload,
    qemu,
    ready,
    rundir,
    snapshot,
    spawn,
)
from shype.lab.handover import Enforced
from shype.lab.qemu import Machine
from shype.lab.stages import locked
from shype.policy.ed25519 import PrivateKey

#: Seconds that a boot may take under emulation on a busy machine.
BOOT_LIMIT = 180.0
FLASK_MODES = ("enforcing", "permissive", "disabled")
#: The key that a dom0 trusts, in its lab's directory.
_KEY = "lab.key"


class BootFailed(ShypeError):
    """The hypervisor or dom0 did not come up (``lab.panic``, ``lab.qemu-ended``, ``lab.no-boot``).

    ``console`` is the whole serial log.
    """

    def __init__(self, id: str, message: str, log: str) -> None:
        super().__init__(id, message, "see the console; is the policy made for this Xen?")
        self.console = log


@dataclass(slots=True)
class Lab:
    """A running lab.  A context manager: leaving it ends the lab.

    Made by `up`, `restore` or `attach`.  Threads may share it.
    """

    directory: Path
    record: rundir.Record
    machine: Machine
    _channel: channel.Channel | None = None

    @classmethod
    def up(
        cls, *, bundle: Path | None = None, files: Mapping[str, bytes | str] | None = None,
        name: str | None = None, flask: str = "enforcing", policy_module: Path | None = None,
        snapshot: bool = True, icount: bool = False, memory: int = 2048, dom0_memory: int = 768,
        xen_args: Sequence[str] = (), dom0_args: Sequence[str] = (), attached: bool = True,
        iommu: bool = False, loaded: bool = False,
    ) -> Lab:
        """Boot a host, or start it from a snapshot of that very boot, and wait until dom0 answers.

        ``bundle``: compiled policy (a file, or unpacked in a directory), its
        ``policy.bin`` is Xen's boot module, and all of it, signed by `key`, is
        dom0's /etc/shype/policy.shype.  ``policy_module``: another file as
        boot module.  ``flask``: ``enforcing``, ``permissive`` or
        ``disabled`` (a Xen without FLASK: no module).  ``files``: further
        files, by absolute path in dom0.  ``icount``: one virtual nanosecond
        is one instruction, for repeatable timing.  Memory in MiB.
        ``attached``: QEMU dies with this process, however that ends.  ``iommu``: a machine
        with an IOMMU and PCI cards (`qemu.IOMMU`).  ``loaded``: if possible, the policy is
        not booted but loaded into a host that is up (`shype.lab.ready`), which is much quicker.

        Raises Unavailable (``lab.not-built``, ``tool.missing``, ...), BadInput
        (``lab.exists``, ``lab.bad-name``), BootFailed, `ready.NotLoaded`.
        """
        built = builder.load()
        policy = Enforced.read(bundle)
        module = policy.module(policy_module)
        given = dict(files or {})
        loaded = loaded and policy.dom0 == ready.CONTEXT
        if loaded and module is not None:
            given[ready.PLACE], module = module, ready.module()
        machine = _machine(built, module, flask, memory, dom0_memory,
                           icount, tuple(xen_args), tuple(dom0_args), iommu)
        began = time.monotonic()
        present = payload.digest(built.guest_initrd) if loaded else b""
        saved = ready.place(machine, present)
        if loaded:
            _make_ready(machine, saved)
        with rundir.claimed(name or _unique()) as directory:
            _write_payload(directory, policy, given, present)
            starter = _Starter(directory, machine, attached, began, policy)
            if loaded:
                return starter.from_ready(saved)
            return starter.from_snapshot() if snapshot else starter.boot()

    @classmethod
    def restore(
        cls, state: str, *, name: str | None = None, attached: bool = True,
        bundle: Path | None = None, files: Mapping[str, bytes | str] | None = None,
    ) -> Lab:
        """A new lab that goes on where `save` (``state``) left off, guests included.

        Any number can be restored from one state.  dom0's clock is set; the
        clocks of guests that were running go on from the time of saving.
        With ``bundle`` or ``files``, a new payload is unpacked over the old.
        """
        source = paths.states() / paths.checked_name(state)
        machine = snapshot.machine_of(source)
        began = time.monotonic()
        with rundir.claimed(name or _unique()) as directory:
            fresh = bundle is not None or files is not None
            policy = Enforced.read(bundle)
            if fresh:
                _write_payload(directory, policy, files or {})
            else:
                shutil.copy(source / "payload.img", directory / "payload.img")
            starter = _Starter(directory, machine, attached, began, policy)
            return starter.resume(source, unpack=fresh)

    @classmethod
    def attach(cls, name: str) -> Lab:
        """The running lab ``name``, which this process then may but need not end (`down`).

        Raises Unavailable (``lab.not-up``).
        """
        directory, record = rundir.find(name)
        machine = snapshot.machine_of(directory)
        return cls(directory, record, machine)

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.record.name

    @property
    def key(self) -> Path:
        """The private key whose signatures dom0 trusts, made for this lab (if it has a policy)."""
        return self.directory / _KEY

    @property
    def channel(self) -> channel.Channel:
        """The connection to dom0's agent (opened when first used)."""
        if self._channel is None:
            self._channel = channel.Channel(self.directory)
        return self._channel

    def run(
        self, argv: Sequence[str], timeout: float | None = 60, *, input: bytes | None = None,
        env: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> Completed:
        """Run ``argv`` in dom0 and wait; code 124 if it was killed after ``timeout`` seconds."""
        return self.channel.run(argv, timeout=timeout, input=input, env=env, cwd=cwd)

    def sh(self, script: str, timeout: float | None = 60) -> Completed:
        """Run a shell script in dom0."""
        return self.run(["sh", "-c", script], timeout)

    def spawn(self, argv: Sequence[str], log: str | None = None) -> int:
        """Start ``argv`` in dom0's background, output to dom0's file ``log``; its process id."""
        return self.channel.spawn(argv, log=log)

    def put(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Write a file in dom0."""
        self.channel.put(path, data.encode() if isinstance(data, str) else data, mode)

    def get(self, path: str) -> bytes:
        """Read a file in dom0. Raises RemoteError if it cannot be read."""
        return self.channel.get(path)

    def console(self) -> str:
        """Everything that Xen and dom0's kernel printed on the serial line since this lab began."""
        return console.text(self.directory)

    def alive(self) -> bool:
        """Whether QEMU runs."""
        return self.record.alive

    def save(self, state: str) -> Path:
        """Save the machine with its guests as ``state``, for `restore`; it goes on running."""
        target = paths.states() / paths.checked_name(state)
        snapshot.take(self.directory, self.machine, target)
        return target

    def down(self) -> None:
        """End the lab at once and remove its files; nothing happens if it is gone already."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        rundir.end(self.record)
        rundir.remove(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.down()


def forget(state: str) -> None:
    """Remove a saved state."""
    shutil.rmtree(paths.states() / paths.checked_name(state), ignore_errors=True)


def _make_ready(machine: Machine, place: Path) -> None:
    """Have a snapshot of the machine when dom0 is up and shype is warm, but for the policy."""
    with locked(place.with_name(f".{place.name}.lock")):
        if snapshot.use(place):
            return
        with rundir.claimed(_unique()) as directory:
            nothing = Enforced()
            _write_payload(directory, nothing, {})
            with _Starter(directory, machine, True, time.monotonic(), nothing).boot() as lab:
                lab.channel.ask("warm", timeout=BOOT_LIMIT)
                for words in ready.FIRST:
                    lab.channel.run(words, timeout=BOOT_LIMIT)
                _keep(lab, place)


def _keep(lab: Lab, place: Path) -> None:
    """Take the snapshot ``place`` of a lab to whose dom0 nobody is connected."""
    lab.channel.close()
    lab._channel = None
    snapshot.take(lab.directory, lab.machine, place)
    snapshot.prune()


def _unique() -> str:
    return f"lab-{os.getpid()}-{os.urandom(3).hex()}"


def _write_payload(
    directory: Path, policy: Enforced, files: Mapping[str, bytes | str],
    present: bytes = b"",
) -> None:
    given: dict[str, bytes] = {}
    if policy.contents is not None:
        key = PrivateKey.generate()
        write_atomic(directory / _KEY, key.pem(), 0o600)
        given = handover.files(policy.contents, key)
    payload.write(directory / "payload.img", guest_initrd=builder.load().guest_initrd,
                  files={**given, **files}, present=present)


def _machine(
    built: builder.Built, module: bytes | None, flask: str, memory: int,
    dom0_memory: int, icount: bool, xen_args: tuple[str, ...], dom0_args: tuple[str, ...],
    iommu: bool,
) -> Machine:
    if flask not in FLASK_MODES:
        raise BadInput("lab.bad-flask", f"flask mode {flask!r}", f"one of {', '.join(FLASK_MODES)}")
    if flask == "disabled":
        module = None
    return Machine(
        xen=str(built.xen), vmlinux=str(built.vmlinux), dom0_initrd=str(built.dom0_initrd),
        image=str(built.image),
        policy=None if module is None else str(snapshot.module(module)), flask=flask, memory=memory,
        dom0_memory=dom0_memory, icount=icount, xen_args=xen_args, dom0_args=dom0_args,
        iommu=iommu,
    )


@dataclass(slots=True)
class _Starter:
    """Brings up one machine in a claimed directory."""

    directory: Path
    machine: Machine
    attached: bool
    began: float
    policy: Enforced

    def boot(self) -> Lab:
        """Power on and wait for dom0."""
        qemu.overlay(self.directory / "disk.qcow2", Path(self.machine.image), "raw")
        return self._guarded(None, unpack=True)

    def from_snapshot(self) -> Lab:
        """Start from the snapshot of this boot; the first time, boot and make it."""
        place = snapshot.place(self.machine)
        if snapshot.use(place):
            try:
                return self.resume(place, unpack=True)
            except ShypeError:
                # a snapshot is only a cache: a damaged one is made anew
                shutil.rmtree(place, ignore_errors=True)
                for left in ("disk.qcow2", "serial.log"):
                    (self.directory / left).unlink(missing_ok=True)
        with locked(place.with_name(f".{place.name}.lock")):
            if snapshot.use(place):
                return self.resume(place, unpack=True)
            qemu.overlay(self.directory / "disk.qcow2", Path(self.machine.image), "raw")
            return self._guarded(None, unpack=True, save=place)

    def from_ready(self, saved: Path) -> Lab:
        """Go on from the snapshot of `_make_ready`, and load the policy."""
        lab = self.resume(saved, unpack=True, keep=True)
        try:
            ready.load(lab.channel)
        except BaseException:
            lab.down()
            raise
        return lab

    def resume(self, saved: Path, *, unpack: bool, keep: bool = False) -> Lab:
        """Go on from a saved machine; ``keep``: nobody has changed shype's own files in it."""
        snapshot.lay_out(saved, self.directory, self.machine)
        return self._guarded(saved, unpack=unpack, keep=keep)

    def _guarded(self, saved: Path | None, *, unpack: bool, save: Path | None = None,
                 keep: bool = False) -> Lab:
        argv = self.machine.command(incoming=None if saved is None else saved / "memory")
        process = spawn.start(argv, cwd=self.directory, log=self.directory / "qemu.log",
                              with_parent=self.attached)
        try:
            lab = self._ready(process.pid, saved is not None)
            if save is not None:
                _keep(lab, save)
            if unpack:
                lab.channel.ask("payload", keep=keep, timeout=BOOT_LIMIT)
            lab.channel.ask("settime", time=time.time())
            (self.directory / "machine.json").write_bytes(snapshot.dumps(self.machine))
            record = self._record(process.pid, saved is not None, ready=True)
            record.save(self.directory)
            lab.record = record
            return lab
        except BaseException:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise

    def _record(self, pid: int, from_snapshot: bool, *, ready: bool) -> rundir.Record:
        return rundir.Record(
            name=self.directory.name, pid=pid, began=spawn.start_time(pid) or 0,
            boot=spawn.boot_id(), created=time.time(), flask=self.machine.flask,
            policy=self.policy.title, digest=self.policy.digest, attached=self.attached,
            seconds=round(time.monotonic() - self.began, 2), from_snapshot=from_snapshot,
            ready=ready,
        )

    def _ready(self, pid: int, restoring: bool) -> Lab:
        """Wait until dom0's agent answers, watching QEMU and the console meanwhile."""
        record = self._record(pid, restoring, ready=False)
        record.save(self.directory)  # so that a killed launch is found and tidied up
        lab = Lab(self.directory, record, self.machine)
        deadline = time.monotonic() + BOOT_LIMIT
        if restoring:
            self._loaded(lab, deadline)
        while True:
            self._check(lab, restoring)
            if restoring or "LAB-AGENT" in lab.console():
                try:
                    lab.channel.ask("ping", timeout=3)
                    return lab
                except Unavailable:
                    lab.channel.close()
                    lab._channel = None
            if time.monotonic() > deadline:
                raise BootFailed("lab.no-boot", f"dom0 is not ready after {BOOT_LIMIT:g} s; last "
                                 f"on the console:\n{console.last_words(lab.console())}",
                                 lab.console())
            time.sleep(0.05)

    def _loaded(self, lab: Lab, deadline: float) -> None:
        with qemu.Monitor(self.directory) as monitor:
            while (status := monitor.status()) == "inmigrate":
                self._check(lab, True)
                if time.monotonic() > deadline:
                    raise BootFailed("lab.no-restore", "the saved machine is not loaded", "")
                time.sleep(0.01)
            if status != "running":
                monitor.command("cont")

    def _check(self, lab: Lab, restoring: bool) -> None:
        log = lab.console()
        why = console.failure(log)
        if why is not None:
            raise BootFailed("lab.panic", f"the host did not boot: {why}", log)
        if not lab.record.alive:
            said = (self.directory / "qemu.log").read_text(errors="replace").strip()[-800:]
            what = "restoring" if restoring else "booting"
            last = console.last_words(log)
            raise BootFailed("lab.qemu-ended", f"QEMU ended while {what}: {said or last}", log)
