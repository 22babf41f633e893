"""What a verifier knows of hosts: who may be one, its keys, and how far it has come.

One file for each host, ``hosts/NAME.json`` in the verifier's directory, written whole or not at
all. A host is here because somebody has admitted it by its TPM's identity; that it then proved to
have this TPM makes it enrolled. What is remembered of it makes old evidence, a log that lost
events and an older policy noticeable.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shype.attest.event_log import SIZE
from shype.attest.public import attestation_key, endorsement_key
from shype.attest.verdict import Seen
from shype.base import canonical
from shype.base.errors import BadInput, Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.attest_result import Verdict, attester_id
from shype.policy import grammar

#: Largest file of a host, bytes.
MAX_HOST = 256 * 1024
#: Seconds until a scan of all hosts is worth another one.
_RESCAN = 1.0
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_HEX = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"[0-9a-f]{64}")
#: Longest reason of a revocation, characters.
MAX_WHY = 200
_KEYS = {
    "format", "name", "reference", "ek_id", "ek", "ak", "former", "revoked", "seen", "versions",
    "nonces", "verdict",
}


@dataclass(frozen=True, slots=True)
class Host:
    """A host, or a VM. ``reference``: the name of its reference values, None for a VM, of which
    only `chain.follow` says something. ``ek_id``: whom we admitted.

    ``ek`` and ``ak`` are TPMT_PUBLIC, None until it is enrolled; ``former`` are ids of keys that it
    must not use again; ``revoked`` says why it is no longer believed. ``versions``: the newest
    version of each policy that it was trusted with. ``nonces``: challenges that it has answered
    and that have not run out. ``verdict``: the last on genuine evidence.
    """

    name: str
    reference: str | None
    ek_id: str
    ek: bytes | None = None
    ak: bytes | None = None
    former: tuple[str, ...] = ()
    revoked: str | None = None
    seen: Seen | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    nonces: tuple[str, ...] = ()
    verdict: str | None = None

    @property
    def state(self) -> str:
        """In one word."""
        if self.revoked is not None:
            return "revoked"
        return "admitted" if self.ak is None else "enrolled"


class Registry:
    """The hosts in a verifier's directory."""

    def __init__(self, state: Path) -> None:
        self._place = state / "hosts"
        self._index: dict[str, str] = {}
        self._indexed = -_RESCAN

    def names(self) -> list[str]:
        """All hosts, sorted."""
        stems = (path.stem for path in self._place.glob("*.json"))
        return sorted(stem for stem in stems if _NAME.fullmatch(stem))

    def get(self, name: str) -> Host:
        """The host ``name``. Raises BadInput (``host.unknown``), Unavailable
        (``registry.corrupt``)."""
        if not _NAME.fullmatch(name):
            raise _unknown(name)
        try:
            data = read_regular(self._place / f"{name}.json", MAX_HOST)
        except FileNotFoundError as error:
            raise _unknown(name) from error
        return _from_json(data, self._place / f"{name}.json")

    def find(self, attester: str) -> Host:
        """The host whose key now is, or was, ``attester``. Raises as `get`."""
        name = self._index.get(attester)
        if name is None or not (self._place / f"{name}.json").exists():
            if time.monotonic() - self._indexed >= _RESCAN:  # strangers must not cost a scan each
                self._index = {}
                for each in self.names():
                    self._remember(self.get(each))
                self._indexed = time.monotonic()
            name = self._index.get(attester)
        if name is None:
            raise _unknown(attester[:16])
        host = self.get(name)
        if attester not in host.former and not (host.ak and attester_id(host.ak) == attester):
            raise _unknown(attester[:16])
        return host

    def _remember(self, host: Host) -> None:
        self._index.update(dict.fromkeys(host.former, host.name))
        if host.ak is not None:
            self._index[attester_id(host.ak)] = host.name

    def put(self, host: Host, *, durable: bool = True) -> None:
        """Write it. Not ``durable``: if the power fails now, the last state is what is known."""
        write_atomic(self._place / f"{host.name}.json", _to_json(host), 0o600, durable=durable)
        self._remember(host)

    def require_new(self, name: str, reference: str | None, ek_id: str) -> None:
        """Raises BadInput: ``registry.name``, ``registry.exists``, unless `admit` would do it."""
        if not _NAME.fullmatch(name):
            raise BadInput(
                "registry.name", f"{name[:80]!r} cannot name a host",
                "use letters, digits, '.', '_' and '-', and begin with a letter or digit",
            )
        if reference is not None and not grammar.is_name(reference):
            raise BadInput(
                "registry.name", f"{reference[:80]!r} cannot name reference values",
                "use lower-case letters, digits and single hyphens: the name that `shype attest "
                "sign` was given",
            )
        if not _HEX.fullmatch(ek_id):
            raise BadInput(
                "registry.name", f"{ek_id[:80]!r} is not an endorsement key's id",
                "`shype attest ek` on the host shows the id, 64 hex digits (a-f in lower case)",
            )
        for other in self.names():
            if other == name or self.get(other).ek_id == ek_id:
                raise BadInput(
                    "registry.exists", f"the host {other} is there already with this name or TPM",
                    f"shype attest forget {other}, if it is another machine now",
                )

    def admit(self, name: str, reference: str | None, ek_id: str) -> Host:
        """A new host, or VM, by its endorsement key's id. Raises as `require_new`."""
        self.require_new(name, reference, ek_id)
        host = Host(name, reference, ek_id)
        self.put(host)
        return host

    def forget(self, name: str) -> None:
        """Remove a host; it must be admitted again. Raises as `get`."""
        self.get(name)
        (self._place / f"{name}.json").unlink()


def _is_reference(name: str | None) -> bool:
    return name is None or grammar.is_name(name)


def _to_json(host: Host) -> bytes:
    seen = host.seen
    return canonical.dumps({
        "format": _FORMAT, "name": host.name, "reference": host.reference, "ek_id": host.ek_id,
        "ek": _text(host.ek), "ak": _text(host.ak), "former": list(host.former),
        "revoked": host.revoked, "verdict": host.verdict, "versions": dict(host.versions),
        "nonces": list(host.nonces),
        "seen": seen and {
            "reset_count": seen.reset_count, "restart_count": seen.restart_count,
            "milliseconds": seen.milliseconds, "events": seen.events,
            "register": seen.register.hex(), "judged": seen.judged,
        },
    })


def _from_json(data: bytes, path: Path) -> Host:
    try:
        value = json.loads(data)
        if value.keys() != _KEYS or value["format"] != _FORMAT or len(data) > MAX_HOST:
            raise ValueError
        seen = value["seen"]
        host = Host(
            value["name"], value["reference"], value["ek_id"], _bytes(value["ek"]),
            _bytes(value["ak"]), tuple(value["former"]), value["revoked"],
            seen and Seen(seen["reset_count"], seen["restart_count"], seen["milliseconds"],
                          seen["events"], bytes.fromhex(seen["register"]), seen["judged"]),
            value["versions"], tuple(value["nonces"]), value["verdict"],
        )
        if host.name != path.stem or _to_json(host) != data or not _sane(host):
            raise ValueError
        if host.ek is not None and endorsement_key(host.ek).id != host.ek_id:
            raise ValueError
        if host.ak is not None:
            attestation_key(host.ak)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BadInput) as error:
        raise Unavailable(
            "registry.corrupt", f"{path} is damaged; the host is not believed until that is mended",
            "restore it from a backup, or `shype attest forget` and enrol the host again",
        ) from error
    return host


def _sane(host: Host) -> bool:
    seen, why = host.seen, host.revoked
    return bool(
        _is_reference(host.reference) and _HEX.fullmatch(host.ek_id)
        and all(_HEX.fullmatch(id) for id in host.former)
        and (why is None or (0 < len(why) <= MAX_WHY and why.isprintable()))
        and all(grammar.is_name(name) and grammar.is_version(version)
                for name, version in host.versions.items())
        and all(_NONCE.fullmatch(nonce) for nonce in host.nonces)
        and host.verdict in (None, *Verdict)
        and (seen is None or (len(seen.register) == SIZE and all(
            type(number) is int and number >= 0 for number in (
                seen.reset_count, seen.restart_count, seen.milliseconds, seen.events,
                seen.judged))))
    )


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


def _unknown(name: str) -> BadInput:
    return BadInput(
        "host.unknown", f"no host {name!r} is admitted here",
        "shype attest admit NAME --reference NAME --ek ID, with what `shype attest ek` shows there",
    )
