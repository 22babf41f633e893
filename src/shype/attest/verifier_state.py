"""What every part of a verifier needs of its directory: hosts, reference values, a secret, a trail.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shype.attest.reference import MAX_REFERENCE, References, loads
from shype.attest.registry import Host, Registry
from shype.base.errors import BadInput
from shype.base.files import read_regular, write_atomic
from shype.host import trust
from shype.host.audit.event import Event, Result
from shype.host.audit.trail import Trail
from shype.policy.ed25519 import KeyId, PublicKey


class VerifierState:
    """The directory ``state``: ``hosts``, ``references/NAME.ref``, ``signers/*.pub`` (whose
    reference values count), ``secret``, ``audit`` (a trail as hosts have it).

    ``clock`` gives seconds since 1970.
    """

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self.registry = Registry(state)
        self.trail = Trail(state / "audit")
        self._state, self._clock = state, clock
        self._thread = threading.RLock()
        self._cache: dict[str, tuple[bytes, Mapping[KeyId, PublicKey], References]] = {}
        self._secret = self._own_secret()

    def references(self, host: Host) -> References:
        """The host's reference values. Raises BadInput: ``reference.*``, ``key.*``."""
        if host.reference is None:
            raise BadInput(
                "reference.vm", f"{host.name} is a VM, for which there are no reference values",
                "shype attest chain --guest FILE --host FILE; --guest is the VM's evidence")
        path = self._state / "references" / f"{host.reference}.ref"
        try:
            data = read_regular(path, MAX_REFERENCE)
        except OSError as error:
            raise BadInput(
                "reference.missing", f"the host {host.name} is to be compared with the reference "
                f"values {host.reference!r}, and there is no {path}: {error.strerror}",
                f"shype attest publish {host.reference}.ref (`shype attest sign` makes it)",
            ) from error
        signers = self.signers()
        known = self._cache.get(host.reference)
        if known is None or known[:2] != (data, signers):
            known = data, signers, loads(data, host.reference, signers)
            self._cache[host.reference] = known
        return known[2]

    def publish(self, data: bytes, name: str) -> References:
        """Use the signed reference values ``data`` from now on.

        Raises BadInput: ``reference.*``; ``reference.superseded`` for older ones than are there.
        """
        found = loads(data, name, self.signers())
        path = self._state / "references" / f"{name}.ref"
        with self._locked():
            if path.exists():
                before = loads(read_regular(path, MAX_REFERENCE), name, self.signers())
                if before.serial >= found.serial and before != found:
                    raise BadInput(
                        "reference.superseded", f"there are newer reference values {name!r} "
                        f"(serial {before.serial}, and not {found.serial})",
                        "sign the ones that you want again: that makes them the newest",
                    )
            self._record("publish", f"reference:{name}", serial=found.serial)
            write_atomic(path, data, 0o644)
        return found

    def signers(self) -> Mapping[KeyId, PublicKey]:
        """Whose reference values count. Raises BadInput ``key.*``."""
        return trust.trusted_keys(self._state / "signers")

    def _record(self, kind: str, about: str, *, deferrable: bool = False, **details: Any) -> None:
        """Into the trail, before it has an effect. Raises Unavailable (``audit.*``)."""
        self.trail.record(Event(kind=f"verifier.{kind}", result=Result.DONE, object=about,
                                details=details, deferrable=deferrable))

    def _mac(self, *parts: bytes) -> bytes:
        text = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        return hmac.digest(self._secret, text, "sha256")

    def _own_secret(self) -> bytes:
        path = self._state / "secret"
        with self._locked():
            if not path.exists():
                write_atomic(path, os.urandom(32), 0o600)
            return path.read_bytes()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time, in this process and among all."""
        with self._thread:
            self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)
