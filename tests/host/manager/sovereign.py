"""A manager on a hypervisor of paper: compiled policies, and what dom0 says to it."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shype.base import canonical
from shype.base.errors import Unavailable
from shype.compile.flask.build import compile_cil, make
from shype.host.drivers.xen.listing import Listed
from shype.host.manager.authority import Authority
from shype.host.manager.incoming import PART
from shype.host.manager.succession import Succession
from shype.host.update.staged import Staged
from shype.host.verify.binary import read
from shype.policy import envelope, signed
from shype.policy.contents import Contents
from shype.policy.ed25519 import PrivateKey
from shype.policy.manifest import BOOT_MANAGER
from shype.policy.names import LabelName
from tests.analysis.policies import policy
from tests.host.manager.test_authority import POLICY as STILL
from tests.signing import AUTHOR, TRUSTED

OLD = STILL.replace("manager: keeper", "manager: keeper, updates: live")
NEW = OLD.replace('"1.0"', '"1.1", from: "1.0"').replace("  plain: {", "  simple: {was: plain, ")


@functools.cache
def parts(text: str, target: str = "xen-4.17") -> Contents:
    """A compiled policy."""
    return make(policy(text), target=target)[1]


def sealed(text: str, key: PrivateKey = AUTHOR, target: str = "xen-4.17") -> bytes:
    return signed.seal(parts(text, target), [key])


def with_rule(text: str, rule: str, place: Path) -> bytes:
    """Signed, with a binary that has one rule more than its source says."""
    made = parts(text)
    (place / "more.cil").write_bytes(made.files["policy.cil"] + rule.encode() + b"\n")
    compile_cil(place / "more.cil", place / "more.bin")
    return with_binary(made, (place / "more.bin").read_bytes())


def with_binary(made: Contents, binary: bytes) -> bytes:
    files = {**made.files, "policy.bin": binary}
    assert isinstance(made.manifest, dict)
    named = {name: canonical.digest(data) for name, data in files.items()}
    manifest = {**made.manifest, "files": named}
    return signed.seal(Contents(manifest, made.policy, files), [AUTHOR])


def staged(data: bytes) -> Staged:
    bundle, contents = signed.opened(envelope.loads(data), Path("x"))
    return Staged(bundle, contents.files["policy.bin"], b"")


@dataclass
class Xen:
    """Has a compiled policy and domains, and converts both by name, as a reload does."""

    binary: bytes
    values: dict[str, bool] = field(default_factory=dict)
    domains: list[Listed] = field(default_factory=list)
    fails: bool = False
    printed: int = 0

    def __post_init__(self) -> None:
        self.values = {name: name == BOOT_MANAGER for name in read(self.binary).booleans}

    def target(self) -> str:
        return "xen-4.17"

    def boolean(self, name: str) -> bool | None:
        return self.values.get(name)

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        assert values.keys() <= self.values.keys()
        self.values.update(values)

    def listed(self) -> Sequence[Listed]:
        return self.domains

    def load(self, policy: bytes) -> None:
        assert self.values["load_open"]
        if self.fails:
            raise Unavailable("host.load", "the hypervisor does not take the policy: EINVAL")
        new = read(policy)
        self.binary = policy
        self.values = {name: self.values.get(name, False) for name in new.booleans}
        self.domains = [Listed(d.domid, self._converted(d.context), d.dying) for d in self.domains]

    def _converted(self, text: str) -> str:
        user, role, type_, level = text.split(":", 3)
        new = read(self.binary)
        return f"{user}:{role}:{new.primary.get(new.types.get(type_, 0), 'unlabeled_t')}:{level}"

    def print_grants(self) -> None:
        assert self.values["load_open"]
        self.printed += 1


@dataclass
class World:
    xen: Xen
    authority: Authority
    now: float = 0.0

    def say(self, op: str, **words: object) -> dict[str, Any]:
        line = json.dumps({"id": "1", "op": op, **words}).encode()
        answer: dict[str, Any] = json.loads(self.authority.handle(line))
        return answer

    def send(self, data: bytes, *, digest: str | None = None, keep: int | None = None,
             part: int = PART) -> dict[str, Any]:
        """As `Managed.load` does, or not quite so; the answer to `load`, or to what failed."""
        packed = zlib.compress(data, 9)
        answer = self.say("offer", size=len(packed),
                          digest=digest or hashlib.sha256(packed).hexdigest())
        for at in range(0, len(packed[:keep]), part):
            if "error" in answer:
                return answer
            piece = packed[:keep][at:at + part]
            answer = self.say("part", at=at, data=base64.b64encode(piece).decode())
        return self.say("load") if "error" not in answer else answer

    def window(self, label: str | None) -> dict[str, Any]:
        of = self.authority._succession.now.bundle.manifest
        return self.say("set", values=of.window_values(LabelName(label) if label else None))

    @property
    def version(self) -> str:
        """The policy in force: the manager and the hypervisor agree, and all is closed."""
        said = self.say("status")
        assert f"policy_{said['digest']}" in self.xen.values
        assert not self.xen.values["load_open"]
        assert not self.xen.values["win_en"]
        return str(said["version"])


def world(text: str = OLD) -> World:
    first = staged(sealed(text))
    manifest = first.bundle.manifest
    contexts = manifest.dom0.context, manifest.labels[LabelName("keeper")].context
    xen = Xen(first.binary, domains=[Listed(n, text, False) for n, text in enumerate(contexts)])
    made = World(xen, Authority(Succession(first, TRUSTED, {}), xen, clock=lambda: made.now))
    made.authority.begin()
    return made
