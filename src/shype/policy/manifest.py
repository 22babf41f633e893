"""The compiled bundle: what `shype build` makes and an enforcing host loads.

A bundle holds ``policy.json`` (the policy as a value), ``policy.cil``,
``policy.bin`` (what the hypervisor loads) and ``manifest.json``, which ties
them together.  `shype.policy.signed` is the file that it travels in; unpacked
and unsigned, it is a directory of these four.  docs/reference/bundle.md has
the format.  Standard library only: this runs in dom0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shype.base import canonical
from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.policy import bundle as values
from shype.policy.contents import FILES, MAX_FILE, Contents, parse
from shype.policy.envelope import corrupt
from shype.policy.manifest_values import WORD, count, mapping, match, record, short, words
from shype.policy.model import Policy, Updates
from shype.policy.names import LabelName, MemberName

#: Raised whenever the shape changes. 2: static policies. 3: live updates.
FORMAT = 3

_HEX = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TARGET = re.compile(r"xen-[0-9]+\.[0-9]+")
_LEVEL = r"s[0-9]+(:c[0-9]+([.,]c[0-9]+)*)?"
_CONTEXT = re.compile(rf"[a-z][a-z0-9_]*(:[a-z][a-z0-9_]*){{2}}:{_LEVEL}(-{_LEVEL})?")
#: Boolean that lets dom0 build the manager (if the policy has one); true at boot, until the
#: manager clears it.
BOOT_MANAGER = "boot_manager"


@dataclass(frozen=True, slots=True)
class LabelEntry:
    """How the hypervisor knows a VM label: FLASK type, security context, window index."""

    type: str
    context: str
    window: int


@dataclass(frozen=True, slots=True)
class Dom0Entry:
    """dom0's label and how the hypervisor knows it."""

    label: LabelName
    type: str
    context: str


@dataclass(frozen=True, slots=True)
class Booleans:
    """Names of the policy's booleans.

    ``enable`` and ``bits`` (least significant first) select the launch window,
    ``running`` says which member of a conflict set runs, ``digest`` exists
    only so that a host can ask the hypervisor which policy it has loaded.
    ``vectors`` (least significant first; none without vectors) spell which
    configuration vector is in force, by its place in the policy.  ``loading`` lets another policy
    be loaded while it is on (None: this one is never replaced on a running host).
    """

    enable: str
    bits: tuple[str, ...]
    running: Mapping[MemberName, str]
    digest: str
    vectors: tuple[str, ...] = ()
    loading: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """Booleans that are off but for moments: ``loading``."""
        return () if self.loading is None else (self.loading,)


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """The policy that a bundle was built from: name, version, file name as given."""

    name: str
    version: str
    source: str


@dataclass(frozen=True, slots=True)
class Validation:
    """What translation validation did: the reader of the binary, pairs of domains, checks made."""

    reader: str
    pairs: int
    checks: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ``manifest.json``. ``validation`` is None if it was switched off.

    ``retired`` maps labels that are gone, and that a running VM may still
    carry, to their types: at which level such a VM runs, this policy no
    longer knows.
    """

    target: str
    digest: str
    policy: PolicyRef
    files: Mapping[str, str]
    labels: Mapping[LabelName, LabelEntry]
    dom0: Dom0Entry
    booleans: Booleans
    validation: Validation | None
    retired: Mapping[LabelName, str] = field(default_factory=dict)

    def window_values(self, label: LabelName | None) -> dict[str, bool]:
        """Values of all window booleans: open for ``label``, or closed for None.

        Raises `BadInput` (``label.unknown``) for a label that no VM may carry.
        """
        if label is None:
            return {self.booleans.enable: False, **dict.fromkeys(self.booleans.bits, False)}
        entry = self.labels.get(label)
        if entry is None:
            raise BadInput(
                "label.unknown", f"the compiled policy has no VM label {label!r}",
                "use one of: " + (", ".join(self.labels) or "(it has none)"),
            )
        return {self.booleans.enable: True, **spelled(self.booleans.bits, entry.window)}

    def label_of_context(self, context: str) -> LabelName | None:
        """The label (dom0's and retired ones included) that a security context stands for.

        The whole context counts, so that a VM whose label has another level
        since a reload is not taken for one that has it.
        """
        if context == self.dom0.context:
            return self.dom0.label
        found = next((name for name, e in self.labels.items() if e.context == context), None)
        if found is None and self.retired and _CONTEXT.fullmatch(context):
            type_ = context.split(":")[2]
            found = next((name for name, gone in self.retired.items() if gone == type_), None)
        return found

    def to_json(self) -> dict[str, object]:
        """Shape of ``manifest.json``."""
        check = self.validation
        return {
            "format": FORMAT,
            "target": self.target,
            "digest": self.digest,
            "policy": {
                "name": self.policy.name, "version": self.policy.version,
                "source": self.policy.source,
            },
            "files": dict(self.files),
            "labels": {
                name: {"type": e.type, "context": e.context, "window": e.window}
                for name, e in self.labels.items()
            },
            "retired": dict(self.retired),
            "dom0": {
                "label": self.dom0.label, "type": self.dom0.type, "context": self.dom0.context,
            },
            "booleans": {
                "enable": self.booleans.enable, "bits": list(self.booleans.bits),
                "running": dict(self.booleans.running), "digest": self.booleans.digest,
                "vectors": list(self.booleans.vectors), "loading": self.booleans.loading,
            },
            "validation": check and {
                "reader": check.reader, "pairs": check.pairs, "checks": check.checks,
            },
        }

    @staticmethod
    def from_json(value: object) -> Manifest:
        """The inverse of `to_json`. Raises `BadInput` (``bundle.corrupt``) on anything else."""
        top = record(value, "manifest", (
            "format", "target", "digest", "policy", "files", "labels", "dom0", "booleans",
            "validation", "retired",
        ))
        if type(top["format"]) is not int or top["format"] != FORMAT:
            raise corrupt(f"manifest: format {top['format']!r} is not {FORMAT}")
        digest = match(top["digest"], _HEX, "digest")
        ref = record(top["policy"], "policy", ("name", "version", "source"))
        files = record(top["files"], "files", FILES)
        dom0 = record(top["dom0"], "dom0", ("label", "type", "context"))
        manifest = Manifest(
            target=match(top["target"], _TARGET, "target"),
            digest=digest,
            policy=PolicyRef(*(short(ref[k], k) for k in ("name", "version", "source"))),
            files={name: match(files[name], _HEX, f"files.{name}") for name in FILES},
            labels=_labels(top["labels"]),
            dom0=Dom0Entry(
                LabelName(match(dom0["label"], _NAME, "dom0.label")),
                match(dom0["type"], WORD, "dom0.type"),
                match(dom0["context"], _CONTEXT, "dom0.context"),
            ),
            booleans=_booleans(top["booleans"]),
            validation=_validation(top["validation"]),
            retired={
                LabelName(match(name, _NAME, "retired")): match(type_, WORD, f"retired.{name}")
                for name, type_ in mapping(top["retired"], "retired").items()
            },
        )
        _consistent(manifest)
        return manifest


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle whose every file has the digest that its manifest states.

    ``path`` is where it was loaded from: a bundle file, or an unpacked directory.
    """

    policy: Policy
    manifest: Manifest
    path: Path


def bits_for(count: int) -> int:
    """How many booleans spell one of ``count`` indices; at least one."""
    return max(1, (count - 1).bit_length())


def spelled(bits: Sequence[str], index: int) -> dict[str, bool]:
    """The booleans ``bits``, least significant first, that spell ``index``."""
    return {name: bool(index >> i & 1) for i, name in enumerate(bits)}


def index_of(values: Iterable[bool]) -> int:
    """The index that booleans of these ``values`` spell."""
    return sum(1 << i for i, on in enumerate(values) if on)


def policy_digest(policy_json: bytes, target: str, cil: bytes) -> str:
    """The digest that names a compiled policy; ``cil`` is without its digest boolean."""
    return canonical.digest(policy_json + target.encode() + b"\n" + cil)


def digest_boolean(digest: str) -> str:
    """Name of the boolean by which a host recognises the policy in the hypervisor."""
    return f"policy_{digest}"


def digest_line(digest: str) -> bytes:
    """The last line of ``policy.cil``; all before it is what `policy_digest` covers."""
    return f"(boolean {digest_boolean(digest)} false)\n".encode()


def load_bundle(directory: Path) -> Bundle:
    """Read an unpacked bundle and check it whole. It is not signed, so no host loads it.

    Raises `BadInput`: ``bundle.missing`` if the directory or a file is not
    there, ``bundle.corrupt`` if a file is not what the manifest says.
    """
    return assemble(read_directory(directory), directory)


def read_directory(directory: Path) -> Contents:
    """The files of an unpacked bundle, not yet checked. Raises as `load_bundle`."""
    manifest = parse(_read(directory, "manifest.json"), "manifest.json")
    files = {name: _read(directory, name) for name in FILES}
    return Contents(manifest, parse(files["policy.json"], "policy.json"), files)


def assemble(contents: Contents, path: Path) -> Bundle:
    """The bundle of ``contents``, if they belong together.

    Raises `BadInput` (``bundle.corrupt``).
    """
    manifest = Manifest.from_json(contents.manifest)
    for name, data in contents.files.items():
        if canonical.digest(data) != manifest.files[name]:
            raise corrupt(f"{path}: {name} does not have the digest that the manifest states")
    tail = digest_line(manifest.digest)
    cil = contents.files["policy.cil"]
    named = policy_digest(contents.files["policy.json"], manifest.target, cil.removesuffix(tail))
    if not cil.endswith(tail) or named != manifest.digest:
        raise corrupt(f"{path}: policy.cil does not carry the digest of this policy")
    policy = values.policy_from_json(contents.policy)
    _agrees(policy, manifest)
    return Bundle(policy, manifest, path)


def _read(directory: Path, name: str) -> bytes:
    path = directory / name
    try:
        data = read_regular(path, MAX_FILE)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise BadInput(
            "bundle.missing", f"there is no compiled policy at {directory}: {name} is missing",
            "name a policy file, a bundle (FILE.shype), or a directory that `shype bundle extract` "
            "wrote",
        ) from error
    except OSError as error:
        raise corrupt(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise corrupt(f"{path} is larger than {MAX_FILE} bytes")
    return data


def _agrees(policy: Policy, manifest: Manifest) -> None:
    """The manifest names exactly the labels and members of the policy beside it."""
    if (policy.name, policy.version) != (manifest.policy.name, manifest.policy.version):
        raise corrupt("policy.json and the manifest name different policies")
    if policy.host.dom0 != manifest.dom0.label:
        raise corrupt("policy.json and the manifest disagree on dom0's label")
    if {label.name for label in policy.guests} != set(manifest.labels):
        raise corrupt("policy.json and the manifest list different labels")
    if {*policy.retired} != {*manifest.retired}:
        raise corrupt("policy.json and the manifest list different retired labels")
    if policy.members != set(manifest.booleans.running):
        raise corrupt("policy.json and the manifest list different members of walls")
    bits = len(manifest.booleans.vectors)
    if bits != (bits_for(len(policy.vectors)) if policy.vectors else 0):
        raise corrupt("the manifest's booleans do not spell the vectors of policy.json")
    if (manifest.booleans.loading is not None) is not (policy.host.updates is Updates.LIVE):
        raise corrupt("policy.json and the manifest disagree on live updates")


def _consistent(manifest: Manifest) -> None:
    """What must be unique is; the window indices are 0 to n-1 and fit the bits."""
    windows = sorted(entry.window for entry in manifest.labels.values())
    if windows != list(range(len(windows))):
        raise corrupt("labels: the windows are not numbered 0 to n-1")
    bits = manifest.booleans.bits
    if not bits or len(manifest.labels) > 1 << len(bits):
        raise corrupt("booleans: too few bits to select every label's window")
    vectors = manifest.booleans.vectors
    names = [manifest.booleans.enable, *bits, *vectors, *manifest.booleans.flags,
             *manifest.booleans.running.values()]
    if len(set(names)) != len(names):
        raise corrupt("booleans: a name is used twice")
    if manifest.booleans.digest != digest_boolean(manifest.digest):
        raise corrupt("booleans: the digest boolean does not carry the digest")
    contexts = {entry.context: entry.type for entry in manifest.labels.values()}
    contexts[manifest.dom0.context] = manifest.dom0.type
    if len(contexts) != len(manifest.labels) + 1 or manifest.dom0.label in manifest.labels:
        raise corrupt("labels: a label or a context is used twice")
    types = [*contexts.values(), *manifest.retired.values()]
    if len({*types}) != len(types) or manifest.labels.keys() & manifest.retired.keys():
        raise corrupt("labels: a type is used twice, or a label is retired and is not")
    for context, type_ in contexts.items():
        if context.split(":")[2] != type_:
            raise corrupt(f"labels: the context {context} does not carry the type {type_}")


def _labels(value: object) -> dict[LabelName, LabelEntry]:
    result: dict[LabelName, LabelEntry] = {}
    for name, item in mapping(value, "labels").items():
        where = f"labels.{match(name, _NAME, 'labels')}"
        entry = record(item, where, ("type", "context", "window"))
        result[LabelName(name)] = LabelEntry(
            match(entry["type"], WORD, f"{where}.type"),
            match(entry["context"], _CONTEXT, f"{where}.context"),
            count(entry["window"], f"{where}.window"),
        )
    return dict(sorted(result.items(), key=lambda pair: pair[1].window))


def _booleans(value: object) -> Booleans:
    names = record(value, "booleans", (
        "enable", "bits", "running", "digest", "vectors", "loading"))
    running = mapping(names["running"], "booleans.running")
    return Booleans(
        match(names["enable"], WORD, "booleans.enable"),
        words(names["bits"], "booleans.bits"),
        {
            MemberName(match(member, _NAME, "booleans.running")):
            match(name, WORD, f"booleans.running.{member}")
            for member, name in running.items()
        },
        match(names["digest"], WORD, "booleans.digest"),
        words(names["vectors"], "booleans.vectors"),
        None if names["loading"] is None else match(names["loading"], WORD, "booleans.loading"),
    )


def _validation(value: object) -> Validation | None:
    if value is None:
        return None
    done = record(value, "validation", ("reader", "pairs", "checks"))
    return Validation(
        short(done["reader"], "validation.reader"),
        count(done["pairs"], "validation.pairs"),
        count(done["checks"], "validation.checks"),
    )
