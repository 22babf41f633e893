"""The driver for Xen: FLASK by hypercall, domains by xl."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from shype.base import child
from shype.base.errors import BadInput, Unavailable
from shype.base.files import write_atomic
from shype.host.drivers.config import derive, kept
from shype.host.drivers.xen import console, grants, xenstore, xl
from shype.host.drivers.xen.flask import PRIVCMD, Flask, release
from shype.host.drivers.xen.governor import XenGovernor
from shype.host.drivers.xen.monitor import Monitor, Own
from shype.host.hypervisor import Backend, ConsoleText, CreateFailed, Domain, Source, VmConfig
from shype.host.mapped import Mapped
from shype.host.network.linux import LinuxSwitch
from shype.host.network.switch import Switch
from shype.host.resources.device import Other
from shype.host.resources.scripts import DECIDED, PLACE
from shype.host.store.client import Client, require_listener
from shype.host.update.staged import Staged
from shype.policy.manifest import Manifest
from shype.policy.model import Enforcement

if TYPE_CHECKING:
    from shype.decision.security_server import SecurityServer
    from shype.host.verify.compare import Report

#: Seconds that xl may take: to answer a question, to build a VM.
_ANSWER = 60
#: xl's command to attach and detach each kind of device.
_ATTACH = {"disk": "block-attach", "network": "network-attach", "cd": "cd-insert"}
_DETACH = {"disk": "block-detach", "network": "network-detach", "cd": "cd-eject"}
#: Tells shype's own hotplug scripts that shype has decided already, and looks again afterwards.
_OURS = {DECIDED: "1"}
_RESTORE = ("env", f"{DECIDED}=1", "xl", "restore", "-p", "/proc/self/fd/0")
_BACKENDS = "/local/domain/0/backend"
_BUILD = 600
#: Seconds that xl gets to hand a guest the request to shut down.
_REQUEST = 5


def require_xen(device: Path = PRIVCMD) -> None:
    """Raises Unavailable (``host.no-xen``) unless this is dom0 of a Xen host."""
    if not device.exists():
        raise Unavailable(
            "host.no-xen", f"this machine is no dom0 of a Xen host: there is no {device}",
            "run this command in dom0 (modprobe xen-privcmd if it is one); `shype lab up POLICY` "
            "starts a Xen host to try it on",
        )


class XenHypervisor:
    """Implements `shype.host.hypervisor.Hypervisor` in dom0."""

    def __init__(
        self, flask: Flask | None = None, release: Callable[[], tuple[int, int]] = release
    ) -> None:
        self._flask = flask or Flask()
        self._release = release
        #: Who sets booleans and loads policies: dom0 itself, unless a manager has that right.
        self.monitor: Monitor = Own(self._flask)

    def target(self) -> str:
        """See the protocol."""
        try:
            major, minor = self._release()
        except OSError as error:
            raise Unavailable(
                "host.no-xen", f"the hypervisor does not tell its release: {error.strerror}",
                "run this command as root in dom0",
            ) from error
        return f"xen-{major}.{minor}"

    def enforcement(self) -> Enforcement:
        """See the protocol."""
        answer = self._flask.enforcing()
        if answer is None:
            return Enforcement.NONE
        return Enforcement.ENFORCING if answer else Enforcement.PERMISSIVE

    def boolean(self, name: str) -> bool | None:
        """See the protocol."""
        return self._flask.boolean(name)

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        """See the protocol."""
        self.monitor.set_booleans(values)

    def load(self, what: Staged, also: Mapping[str, str]) -> None:
        """See the protocol."""
        self.monitor.load(what, also)

    def confirm(self) -> None:
        """See the protocol."""
        self.monitor.confirm()

    def mapped(self) -> Mapped:
        """See the protocol."""
        return grants.read(self.monitor.print_grants)

    def verified(
        self, server: SecurityServer, manifest: Manifest, binary: bytes
    ) -> Report | None:
        """See the protocol."""
        from shype.host.drivers.xen.access import Questions
        from shype.host.verify import binary as compiled
        from shype.host.verify import compare

        with Questions() as asked:
            return compare.loaded(
                server, manifest, compiled.read(binary), asked, self._flask.boolean,
                enforcing=self._flask.enforcing() is True)

    def domains(self) -> tuple[Domain, ...]:
        """See the protocol."""
        require_listener()
        return xl.domains(_ask("list", "-v").out)

    def read_config(self, path: Path) -> VmConfig:
        """See the protocol."""
        return self._parse(path)

    def prepare(
        self, text: bytes, into: Path, *, vm: VmConfig, seclabel: str, channel: Path | None = None,
    ) -> None:
        """See the protocol."""
        write_atomic(into, derive(text, seclabel, vm.uuid, vm.actions, channel), 0o600)
        read = self._parse(into)
        devices = list(read.devices.all)
        if channel is not None and Other("channel", str(channel)) in devices:
            devices.remove(Other("channel", str(channel)))
        elif channel is not None:
            raise BadInput("config.invalid", "xl does not understand the console that is added at "
                           "the end of the configuration", "look at its list `channel`")
        if tuple(devices) != vm.devices.all:
            raise BadInput(
                "config.invalid", "xl understands other devices once lines are added at the end of "
                "the configuration", "look for an unfinished list or string at its end",
            )
        understood = (read.name, read.uuid, read.seclabel, read.init_seclabel)
        told = {e: action for e, action in kept(vm.actions).items() if action != "destroy"}
        if understood != (vm.name, vm.uuid, seclabel, None) or read.actions != told:
            raise BadInput(
                "config.invalid",
                "lines added at the end of the configuration do not take effect: xl understands "
                f"name, uuid, seclabel, init_seclabel {understood} and {read.actions}",
                "look for an unfinished list or string at its end",
            )

    def create_paused(self, path: Path) -> None:
        """See the protocol."""
        try:
            child.run(("xl", "create", "-p", path), timeout=_BUILD, die_with_parent=True,
                      env=_OURS)
        except child.ChildFailed as error:
            raise _create_failed(error) from error

    def restore_paused(self, source: Source) -> None:
        """See the protocol."""
        try:
            child.feed(_RESTORE, source, timeout=_BUILD,
                       die_with_parent=True)
        except child.ChildFailed as error:
            raise _create_failed(error) from error

    def save(self, domid: int, sink: Callable[[bytes], None]) -> None:
        """See the protocol."""
        # Not dying with the caller: xl lets the guest go on when nobody takes the image.
        try:
            child.drain(("xl", "save", "-p", str(domid), "/proc/self/fd/1"), sink, timeout=_ANSWER)
        except child.ChildFailed as error:
            raise Unavailable("xl.failed", error.message, "the VM goes on as before") from error

    def migrate(self, domid: int, command: str) -> None:
        """See the protocol."""
        # Not dying with the caller either, nor of Ctrl-C: xl would leave the guest suspended.
        try:
            child.drain(("xl", "migrate", "-s", "", str(domid), command), lambda said: None,
                        timeout=None)
        except child.ChildFailed as error:
            raise Unavailable("xl.failed", error.message) from error

    def unpause(self, domid: int) -> None:
        """See the protocol."""
        _ask("unpause", str(domid))

    def pause(self, domid: int) -> None:
        """See the protocol."""
        _ask("pause", str(domid))

    def shutdown(self, domid: int, *, reboot: bool = False) -> None:
        """See the protocol."""
        # xl goes on to wait for the guest's acknowledgement, and fails without one. A guest that
        # still boots, or hangs, gives none: whether it goes is seen in the list of domains.
        with contextlib.suppress(child.ChildFailed):
            child.run(("xl", "reboot" if reboot else "shutdown", str(domid)), timeout=_REQUEST,
                      die_with_parent=True)

    def destroy(self, domid: int) -> None:
        """See the protocol."""
        try:
            _ask("destroy", str(domid))
        except Unavailable:
            if any(d.domid == domid and not d.dying for d in self.domains()):
                raise

    def dump(self, domid: int, into: Path) -> None:
        """See the protocol."""
        into.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            child.run(("xl", "dump-core", str(domid), into), timeout=_BUILD)
        except child.ChildFailed as error:
            raise Unavailable("xl.failed", error.message, "is there room for it?") from error

    def endings(self) -> AbstractContextManager[Callable[[float], bool]]:
        """See the protocol."""
        return xenstore.endings()

    def store(self) -> Client:
        """See the protocol."""
        return Client()

    def attach(self, domid: int, kind: str, words: Sequence[str]) -> None:
        """See the protocol."""
        _attach(_ATTACH[kind], domid, words)

    def detach(self, domid: int, kind: str, device: str) -> None:
        """See the protocol."""
        _attach(_DETACH[kind], domid, (device,))

    def backends(self) -> tuple[Backend, ...]:
        """See the protocol."""
        try:
            done = child.run(("xenstore-ls", "-f", _BACKENDS), timeout=_ANSWER)
        except child.ChildFailed as error:
            if "No such file" in error.done.err:
                return ()  # there has been none since dom0 booted
            raise Unavailable("xl.failed", error.message, "is xenstored running?") from error
        return xl.backends(done.out)

    def scripts(self) -> Path | None:
        """See the protocol."""
        return PLACE

    def console(self, after: int | None) -> ConsoleText:
        """See the protocol."""
        return console.read(after)

    def limits_messages(self) -> bool:
        """See the protocol."""
        return xl.limits_messages(_ask("info").out)

    def denials(self) -> tuple[str, ...]:
        """See the protocol."""
        return xl.denied_lines(_ask("dmesg").out)

    def governor(self) -> XenGovernor:
        """See the protocol."""
        return XenGovernor()

    def switch(self) -> Switch:
        """See the protocol."""
        return LinuxSwitch()

    def _parse(self, path: Path) -> VmConfig:
        try:
            done = child.run(("xl", "create", "-n", path), timeout=_ANSWER, die_with_parent=True)
        except child.ChildFailed as error:
            words = (error.done.err.strip() or error.done.out.strip())[-2000:]
            raise BadInput(
                "config.invalid", f"xl rejects the configuration:\n{words}", "see xl.cfg(5)",
            ) from error
        return xl.config(done.out)


def _create_failed(error: child.ChildFailed) -> CreateFailed:
    words = (error.done.err.strip() or error.done.out.strip())[-2000:]
    return CreateFailed(
        f"xl could not build the VM (exit code {error.done.code}):\n{words}",
        "the lines above are xl's own; see also /var/log/xen",
    )


def _attach(command: str, domid: int, words: Sequence[str]) -> None:
    try:
        child.run(("xl", command, str(domid), *words), timeout=_ANSWER, env=_OURS)
    except child.ChildFailed as error:
        said = (error.done.err.strip() or error.done.out.strip())[-2000:]
        raise Unavailable("attach.failed", f"xl {command} failed:\n{said}",
                          "the lines above are xl's own; see also /var/log/xen") from error


def _ask(*words: str) -> child.Completed:
    try:
        return child.run(("xl", *words), timeout=_ANSWER, die_with_parent=True)
    except child.ChildFailed as error:
        raise Unavailable("xl.failed", error.message, "is xenstored running?") from error
