"""A model of Xen with a compiled policy loaded: FLASK's decision on creation, and its booleans.

It decides as the compiled policy does, from the booleans alone, and knows
nothing of the agent; so the agent's launch code runs on it unchanged.  With a
file it persists, and several processes may use it at once: what they then see
of each other, and what a killed one leaves behind, is what a real hypervisor
would show.  It is a model for tests and what-if: nothing is enforced.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shype.base.errors import BadInput, Unavailable
from shype.base.files import write_atomic
from shype.decision.decision import Decision
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.host import image
from shype.host.drivers import model_config, model_migration
from shype.host.drivers.config import EVENTS, derive, kept, new_uuid
from shype.host.drivers.model_channel import ModelChannels
from shype.host.drivers.model_governor import ModelGovernor
from shype.host.drivers.model_rules import CreationRule
from shype.host.drivers.model_state import PERMISSION, State, boot, console, dump, load, log
from shype.host.drivers.model_store import Contents, ModelStore
from shype.host.drivers.model_updating import Updating
from shype.host.hypervisor import (
    Backend,
    ConsoleText,
    CreateFailed,
    Domain,
    Ending,
    Source,
    VmConfig,
)
from shype.host.network.switch import NoSwitch, Switch
from shype.policy.manifest import Bundle
from shype.policy.model import Enforcement

#: Context of a VM created without seclabel: initial SID domU.
UNLABELLED = "u:r:domU_t:s0"
#: The toolstack's own name for a domain that it has not named yet.
NAMELESS = "(null)"
#: Bytes of memory that a domain has.
MEMORY = 65536


class ModelHypervisor(Updating):
    """Implements `shype.host.hypervisor.Hypervisor`.

    ``build_seconds`` is how long the toolstack takes between the creation of a
    domain and the end of its construction.
    """

    def __init__(self, bundle: Bundle, file: Path | None = None, build_seconds: float = 0) -> None:
        self._policy = bundle.policy
        self._manifest = bundle.manifest
        self._server = SecurityServer(bundle.policy)
        self._rules = CreationRule(bundle.policy, bundle.manifest, self._server)
        self._file = file.absolute() if file else None
        self._build_seconds = build_seconds
        self._mutex = threading.RLock()
        self._memory = boot(bundle.manifest)
        self.bridges: Switch = NoSwitch()
        self.channels = ModelChannels()

    # -- the Hypervisor protocol --------------------------------------------------------------

    def target(self) -> str:
        """See the protocol."""
        with self._state() as state:
            return state.target

    def enforcement(self) -> Enforcement:
        """See the protocol."""
        with self._state() as state:
            return state.enforcement

    def boolean(self, name: str) -> bool | None:
        """See the protocol."""
        with self._state() as state:
            return state.booleans.get(name)

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        """See the protocol."""
        with self._state() as state:
            unknown = sorted(set(values) - set(state.booleans))
            if unknown:
                raise Unavailable("host.boolean", f"the loaded policy has no boolean {unknown[0]}")
            state.booleans.update(values)

    def domains(self) -> tuple[Domain, ...]:
        """See the protocol."""
        with self._state() as state:
            return tuple(state.domains)

    def read_config(self, path: Path) -> VmConfig:
        """See the protocol; understands ``key = "value"`` lines, the last one wins."""
        return model_config.read(path.read_text(errors="replace"))

    def prepare(
        self, text: bytes, into: Path, *, vm: VmConfig, seclabel: str, channel: Path | None = None,
    ) -> None:
        """See the protocol."""
        into.write_bytes(derive(text, seclabel, vm.uuid, vm.actions, channel))
        self.channels.prepared = channel
        read = self.read_config(into)
        told = {e: action for e, action in kept(vm.actions).items() if action != "destroy"}
        if (read.name, read.uuid) != (vm.name, vm.uuid) or read.actions != told:
            raise BadInput("config.invalid", "the configuration cannot be extended")

    def create_paused(self, path: Path) -> None:
        """See the protocol."""
        vm = self.read_config(path)
        self.create(vm.name, vm.seclabel, paused=True, uuid=vm.uuid, actions=vm.actions,
                    size=(vm.vcpus, vm.memory))
        self.channels.listen(vm.name)

    def unpause(self, domid: int) -> None:
        """See the protocol."""
        self._change(domid, paused=False)

    def save(self, domid: int, sink: Callable[[bytes], None]) -> None:
        """See the protocol; the memory of a domain is a line with its context."""
        with self._state() as state:
            found = next(d for d in state.domains if d.domid == domid)
            actions = state.actions[str(domid)]
        config = {"c_info": {"name": found.name, "uuid": found.uuid, "ssid_label": found.context},
                  "b_info": {"max_vcpus": found.vcpus, "max_memkb": found.memory}, **actions}
        try:
            sink(image.dumps(config))
            sink((f"memory of {found.context}\n".encode() * MEMORY)[:MEMORY])
        except BaseException:
            self._change(domid, paused=False)
            raise
        self._change(domid, paused=True)

    def restore_paused(self, source: Source) -> None:
        """See the protocol."""
        ended = False
        left = source(lambda: ended)
        buffer = b""

        def read(size: int) -> bytes:
            nonlocal buffer
            while len(buffer) < size and (chunk := next(left, b"")):
                buffer += chunk
            found, buffer = buffer[:size], buffer[size:]
            return found

        head = image.read_head(read)

        def memory() -> None:
            found = read(MEMORY)
            if not found.startswith(b"memory of ") or len(found) < MEMORY:
                raise CreateFailed("xl: the stream ends too early")

        size = (head.vm.vcpus, head.vm.memory)
        self.create(head.name, head.context, paused=True, uuid=head.uuid, size=size, actions={
            event: action for event, action in head.config.items()
            if event in EVENTS and action != "destroy"}, within=memory)
        ended = True  # as a migration's stream does not: it goes on with other words
        for _ in left:
            pass

    def migrate(self, domid: int, command: str) -> None:
        """See the protocol."""
        name = next(d.name for d in self.domains() if d.domid == domid)

        def suspend(sink: Callable[[bytes], None]) -> None:
            self._change(domid, ended=Ending.SUSPEND)
            self.save(domid, sink)

        model_migration.send(
            command, suspend,
            resume=lambda: self._change(domid, ended=None, paused=False, name=name),
            away=lambda: self._change(domid, name=f"{name}--migratedaway"))
        self.destroy(domid)

    def pause(self, domid: int) -> None:
        """See the protocol."""
        self._change(domid, paused=True)

    def shutdown(self, domid: int, *, reboot: bool = False) -> None:
        """See the protocol; every guest of the model obeys at once, unless it is paused."""
        if any(d.domid == domid and not d.paused for d in self.domains()):
            self.end(domid, Ending.REBOOT if reboot else Ending.POWEROFF)

    def dump(self, domid: int, into: Path) -> None:
        """See the protocol; a domain of the model has no memory."""
        into.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with into.open("xb") as file:
            file.write(f"memory of domain {domid}\n".encode())

    @contextlib.contextmanager
    def endings(self) -> Iterator[Callable[[float], bool]]:
        """See the protocol."""
        seen = {domain.domid for domain in self.domains() if not domain.ended}

        def wait(seconds: float) -> bool:
            nonlocal seen
            deadline = time.monotonic() + seconds
            while True:
                now = {domain.domid for domain in self.domains() if not domain.ended}
                gone, seen = seen - now, now
                if gone or time.monotonic() >= deadline:
                    return bool(gone)
                time.sleep(0.02)

        yield wait

    def destroy(self, domid: int) -> None:
        """See the protocol."""
        with self._state() as state:
            state.domains = [d for d in state.domains if d.domid != domid or domid == 0]
            if domid != 0:
                state.store.release(domid)

    def store(self) -> ModelStore:
        """See the protocol."""
        return ModelStore(self._contents)

    def attach(self, domid: int, kind: str, words: Sequence[str]) -> None:
        """See the protocol; the model has no devices."""
        raise _no_devices()

    def detach(self, domid: int, kind: str, device: str) -> None:
        """See the protocol; the model has no devices."""
        raise _no_devices()

    def backends(self) -> tuple[Backend, ...]:
        """See the protocol; the model has no devices."""
        return ()

    def scripts(self) -> Path | None:
        """See the protocol."""
        return None

    def console(self, after: int | None) -> ConsoleText:
        """See the protocol."""
        with self._state() as state:
            return console(state, after)

    def limits_messages(self) -> bool:
        """See the protocol."""
        return True

    def denials(self) -> tuple[str, ...]:
        """See the protocol."""
        with self._state() as state:
            return tuple(state.console)

    def governor(self) -> ModelGovernor:
        """See the protocol."""
        return ModelGovernor(self._state)

    def switch(self) -> Switch:
        """See the protocol."""
        return self.bridges

    # -- what others than the agent do to a host ----------------------------------------------

    def create(
        self, name: str, seclabel: str | None, *, paused: bool = False, uuid: str | None = None,
        actions: Mapping[str, str] = MappingProxyType({}), size: tuple[int, int] = (1, 0),
        within: Callable[[], None] = lambda: None,
    ) -> int:
        """``xl create`` by anybody who is root in dom0. Raises `CreateFailed` if denied."""
        context = seclabel if seclabel is not None else UNLABELLED
        with self._state() as state:
            if state.enforcement is Enforcement.NONE:
                context = "-"  # libxl: "XSM Disabled: init_seclabel not supported"
            elif not self._known(context):
                raise CreateFailed(f"xl: Invalid seclabel: {context}")
            elif not self._rules.may_create(context, state.booleans):
                dom0 = self._manifest.dom0.context
                log(state, f"(XEN) avc:  denied  {{ create }} for current=d0 scontext={dom0} "
                            f"tcontext={context} tclass=domain")
                if state.enforcement is Enforcement.ENFORCING:
                    raise CreateFailed("xl: domain creation fail: Permission denied")
            if any(d.name == name for d in state.domains):
                raise CreateFailed(f"xl: domain with name \"{name}\" already exists")
            domid, state.next = state.next, state.next + 1
            state.store.introduce(domid)
            state.domains.append(Domain(
                domid, NAMELESS, context, paused=True, dying=False, uuid=uuid or new_uuid(),
                vcpus=size[0], memory=size[1]))
            state.actions[str(domid)] = dict(actions)
        try:
            time.sleep(self._build_seconds)
            within()
        except BaseException:
            self.destroy(domid)
            raise
        with self._state() as state:
            if all(d.domid != domid for d in state.domains):
                raise CreateFailed(f"xl: domain {domid} vanished while it was being built")
            state.domains = [
                replace(d, name=name, paused=paused) if d.domid == domid else d
                for d in state.domains
            ]
        return domid

    def exit(self, domid: int, *, zombie: bool = False) -> None:
        """The guest ends by itself; as a zombie it goes on holding its memory."""
        self.destroy(domid) if not zombie else self._die(domid)

    def end(self, domid: int, ending: Ending) -> None:
        """The guest ends, and the toolstack does what the configuration tells it.

        To create it again, which the agent never tells it, would need a window.
        """
        with self._state() as state:
            action = state.actions.get(str(domid), {}).get(f"on_{ending}", "destroy")
        if action == "preserve":
            self._change(domid, ended=ending)
        else:
            self.destroy(domid)

    def rename(self, domid: int, name: str) -> None:
        """``xl rename`` by root."""
        self._change(domid, name=name)

    def set_enforcement(self, enforcement: Enforcement) -> None:
        """Boot the host another way."""
        with self._state() as state:
            state.enforcement = enforcement

    def attempt(self, source: int, target: int, operation: Operation) -> Decision:
        """Domain ``source`` tries ``operation`` on ``target``; a denial goes to the console.

        Raises BadInput (``vm.unknown``) if one of them does not run.
        """
        with self._state() as state:
            found = {d.domid: d.context for d in state.domains}
            labels = [self._manifest.label_of_context(found.get(n, "")) for n in (source, target)]
            a, b = labels
            if a is None or b is None:
                who = source if a is None else target
                raise BadInput("vm.unknown", f"no domain {who} with a label runs")
            decision = self._server.decide(a, b, operation)
            if not decision.permitted:
                tclass, permission = PERMISSION[operation]
                log(state, f"(XEN) avc:  denied  {{ {permission} }} for source=d{source} "
                            f"target=d{target} scontext={found[source]} tcontext={found[target]} "
                            f"tclass={tclass}")
            return decision

    def _known(self, context: str) -> bool:
        return context == UNLABELLED or self._manifest.label_of_context(context) is not None

    def _die(self, domid: int) -> None:
        self._change(domid, dying=True)

    def _change(self, domid: int, **fields: Any) -> None:
        with self._state() as state:
            state.domains = [
                replace(d, **fields) if d.domid == domid else d for d in state.domains
            ]

    # -- where the state is -------------------------------------------------------------------

    @contextlib.contextmanager
    def _contents(self) -> Iterator[Contents]:
        with self._state() as state:
            yield state.store

    @contextlib.contextmanager
    def _state(self) -> Iterator[State]:
        """The state; what is changed in it is kept, in the order of the operations."""
        with self._mutex:
            if self._file is None:
                yield self._memory
                return
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # A lock file of its own, because replacing the state's file changes its inode.
            with self._file.with_name(f"{self._file.name}.lock").open("a") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)
                old = self._file.read_bytes() if self._file.exists() else b""
                state = load(old) if old else boot(self._manifest)
                try:
                    yield state
                finally:
                    new = dump(state)
                    if new != old:
                        write_atomic(self._file, new)


def _no_devices() -> Unavailable:
    return Unavailable("model.no-devices", "the model has no devices",
                       "`shype dry-run` decides about devices without a host")
