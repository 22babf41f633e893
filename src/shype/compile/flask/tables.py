"""What a Xen release knows: object classes, their permissions, initial SIDs.

The hypervisor refuses a policy whose classes or permissions differ from its
own in name or order (validate_classes() in xen/xsm/flask/ss/services.c), so
these are data, read from each release's own tables by `import_tree`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from shype.base.errors import BadInput

#: Where a Xen source tree keeps its tables.
TREE_DIR = "xen/xsm/flask/policy"
#: Permissions per class: one bit each in a 32-bit access vector.
MAX_PERMISSIONS = 32

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RELEASE = re.compile(r"([0-9]+)\.([0-9]+)(\.[0-9]+)?([-.+~].*)?")


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one release; classes and permissions are in the hypervisor's order."""

    release: str
    classes: Mapping[str, tuple[str, ...]]
    initial_sids: tuple[str, ...]

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number, for example (4, 17)."""
        match = _RELEASE.fullmatch(self.release)
        assert match is not None, "checked when the tables were made"
        return int(match[1]), int(match[2])

    @property
    def target(self) -> str:
        """Name of the target, for example ``xen-4.17``."""
        return "xen-{}.{}".format(*self.version)

    def require(self, cls: str, permission: str, rule: str) -> None:
        """Raise `BadInput` (``target.unknown-permission``) if the target has no such permission."""
        if cls in self.classes and permission in self.classes[cls]:
            return
        what = f"permission {cls}.{permission}" if cls in self.classes else f"class {cls}"
        raise BadInput(
            "target.unknown-permission",
            f"{self.target} has no {what}, which this rule needs: {rule}",
            "check the tables with `shype tables show`; a rule for some releases only must say so",
        )

    def to_json(self) -> dict[str, object]:
        """Shape of a tables file."""
        return {
            "format": 1,
            "release": self.release,
            "classes": [
                {"name": name, "permissions": list(perms)} for name, perms in self.classes.items()
            ],
            "initial_sids": list(self.initial_sids),
        }

    def dumps(self) -> bytes:
        """The tables file, one line per class so that releases can be compared with diff."""
        classes = ",\n".join(
            json.dumps({"name": name, "permissions": list(perms)})
            for name, perms in self.classes.items()
        )
        return (
            '{\n"format": 1,\n'
            f'"release": {json.dumps(self.release)},\n'
            f'"classes": [\n{classes}\n],\n'
            f'"initial_sids": {json.dumps(list(self.initial_sids))}\n'
            "}\n"
        ).encode()


def shipped() -> tuple[str, ...]:
    """Targets whose tables come with shype, oldest first."""
    folder = resources.files("shype.compile.flask") / "tables"
    versions = [
        entry.name.removesuffix(".json") for entry in folder.iterdir()
        if entry.name.endswith(".json")
    ]
    return tuple(
        f"xen-{version}"
        for version in sorted(versions, key=lambda v: tuple(int(part) for part in v.split(".")))
    )


def load(target: str) -> Tables:
    """The shipped tables of ``target``. Raises `BadInput` (``target.unknown``)."""
    known = shipped()
    if target not in known:
        near = get_close_matches(target, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInput(
            "target.unknown", f"there are no tables for target {target!r}",
            f"{hint}known: {', '.join(known)}; others: `shype tables import XEN_TREE -o FILE`, "
            "then `shype build --tables FILE`",
        )
    file = resources.files("shype.compile.flask") / "tables" / f"{target.removeprefix('xen-')}.json"
    return parse(file.read_bytes(), file.name)


def load_file(path: Path) -> Tables:
    """Tables that `import_tree` made. Raises `BadInput` (``tables.invalid``)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _invalid(str(path), f"it cannot be read: {error.strerror}") from error
    return parse(data, str(path))


def parse(data: bytes, name: str) -> Tables:
    """Read a tables file. Raises `BadInput` (``tables.invalid``)."""
    try:
        value = json.loads(data)
        if value["format"] != 1:
            raise ValueError("format is not 1")
        pairs = [(item["name"], tuple(item["permissions"])) for item in value["classes"]]
        return _checked(value["release"], pairs, tuple(value["initial_sids"]), name)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _invalid(name, str(error)) from error


def import_tree(tree: Path) -> Tables:
    """Read the tables of a Xen source tree.

    Reads security_classes, initial_sids and access_vectors, and the release
    from xen/Makefile.  Raises `BadInput`: ``tables.no-tree`` if a file is not
    there, ``tables.invalid`` if it cannot be understood.
    """
    root = next((r for r in (tree, tree / "xen") if (r / TREE_DIR).is_dir()), None)
    if root is None:
        raise BadInput(
            "tables.no-tree", f"{tree} is not a Xen source tree: it has no {TREE_DIR}",
            "give the directory that holds xen/, for example from `apt-get source xen`",
        )
    folder = root / TREE_DIR
    classes = _statements("class", _source(folder / "security_classes"), "security_classes")
    sids = _statements("sid", _source(folder / "initial_sids"), "initial_sids")
    vectors = _vectors(_source(folder / "access_vectors"))
    if set(vectors) != set(classes):
        odd = ", ".join(sorted(set(vectors) ^ set(classes)))
        raise _invalid("access_vectors", f"differs from security_classes in {odd}")
    pairs = [(name, vectors[name]) for name in classes]
    return _checked(_release(root / "xen/Makefile"), pairs, sids, str(tree))


def _source(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise _invalid(str(path), "is missing or not text") from error
    return re.sub(r"#.*", "", text)


def _statements(keyword: str, text: str, name: str) -> tuple[str, ...]:
    words = text.split()
    if len(words) % 2 or any(word != keyword for word in words[::2]):
        raise _invalid(name, f"is not a list of `{keyword} NAME`")
    return tuple(words[1::2])


def _vectors(text: str) -> dict[str, tuple[str, ...]]:
    block = re.compile(r"\s*class\s+(\w+)\s*\{([^{}]*)\}\s*")
    result: dict[str, tuple[str, ...]] = {}
    at = 0
    while at < len(text):
        match = block.match(text, at)
        if match is None:
            if not text[at:].strip():
                break
            raise _invalid("access_vectors", f"cannot read {text[at:at + 40].strip()!r}")
        if match[1] in result:
            raise _invalid("access_vectors", f"class {match[1]} is there twice")
        result[match[1]] = tuple(match[2].split())
        at = match.end()
    return result


def _release(makefile: Path) -> str:
    text = _source(makefile)
    found: dict[str, str] = {}
    for key in ("XEN_VERSION", "XEN_SUBVERSION", "XEN_EXTRAVERSION"):
        match = re.search(rf"^(?:export\s+)?{key}\s*[:?]?=\s*(\S*)", text, re.MULTILINE)
        if match:
            found[key] = match[1]
    if not found.get("XEN_VERSION", "").isdigit() or not found.get("XEN_SUBVERSION", "").isdigit():
        raise _invalid(str(makefile), "does not state XEN_VERSION and XEN_SUBVERSION")
    patch = re.match(r"\.[0-9]+", found.get("XEN_EXTRAVERSION", ""))
    return f"{found['XEN_VERSION']}.{found['XEN_SUBVERSION']}" + (patch[0] if patch else "")


def _checked(
    release: object, pairs: list[tuple[str, tuple[str, ...]]], sids: tuple[str, ...], name: str
) -> Tables:
    """Everything that would later end in a policy which the hypervisor refuses."""
    if not isinstance(release, str) or not _RELEASE.fullmatch(release):
        raise _invalid(name, f"release {release!r} is not a version")
    classes = dict(pairs)
    if len(classes) != len(pairs) or not classes:
        raise _invalid(name, "a class is there twice, or there is none")
    for cls, perms in pairs:
        if not 0 < len(perms) <= MAX_PERMISSIONS or len(set(perms)) != len(perms):
            raise _invalid(name, f"class {cls} has no, too many or repeated permissions")
    if len(set(sids)) != len(sids) or not sids:
        raise _invalid(name, "an initial SID is there twice, or there is none")
    for word in (*classes, *sids, *(perm for _, perms in pairs for perm in perms)):
        if not isinstance(word, str) or not _NAME.fullmatch(word):
            raise _invalid(name, f"{word!r} is not a name")
    return Tables(release, classes, sids)


def _invalid(name: str, problem: str) -> BadInput:
    return BadInput(
        "tables.invalid", f"{name}: {problem}",
        "tables come from a Xen source tree by `shype tables import`",
    )
