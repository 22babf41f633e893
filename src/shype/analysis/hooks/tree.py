"""A Xen source tree: its function definitions, its hooks, its public headers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from shype.analysis.hooks.definitions import Definition, definitions, macros
from shype.analysis.hooks.parser import parse
from shype.analysis.hooks.syntax import Function
from shype.base.errors import BadInput

_SOURCES = ("common", "drivers", "xsm", "arch/{arch}", "include/xen", "lib")
#: Not code of hypercalls as the guest reaches them, or not code of the hypervisor.
_SKIPPED = re.compile(r"(^|/)(compat|libfdt|libelf|zstd|xz|lz4|boot|efi|x86_emulate)/|^include/xsm/"
                      r"|^xsm/(dummy|silo)\.c$|/shim\.c$|/compat\.c$")
_HOOK = re.compile(r"\bxsm_(\w+)\s*\(")
_INLINE = re.compile(r"^static\b[^\n;]*?\bxsm_(\w+)\s*\(", re.MULTILINE)


class Tree:
    """An index of a tree. Raises BadInput (``hooks.no-tree``) where there is none."""

    def __init__(self, path: Path, arch: str = "x86") -> None:
        roots = [root for root in (path, path / "xen")
                 if (root / "include/public/xen.h").is_file()]
        if not roots:
            raise BadInput(
                "hooks.no-tree", f"{path} holds no Xen source tree: no include/public/xen.h",
                "give the directory that holds xen/, unpacked (apt-get source xen)",
            )
        self.root = roots[0]
        self.arch = arch
        self.definitions: dict[str, list[Definition]] = defaultdict(list)
        self._parsed: dict[Definition, Function] = {}
        self._load()

    @cached_property
    def hooks(self) -> frozenset[str]:
        """Names of the hooks, without ``xsm_``. Raises BadInput (``hooks.no-xsm``)."""
        header = self.root / "include/xsm/xsm.h"
        names = frozenset(_INLINE.findall(header.read_text(errors="replace"))) \
            if header.is_file() else frozenset()
        if not names:
            raise BadInput("hooks.no-xsm", f"{header} defines no hooks",
                           "use a whole source tree, of Xen 4.2 or later")
        return names

    @cached_property
    def version(self) -> str:
        """As in Xen's makefile, for example ``4.17``; empty if it says none."""
        try:
            text = (self.root / "Makefile").read_text(errors="replace")
        except OSError:
            return ""
        found = dict(re.findall(r"XEN_(VERSION|SUBVERSION)\s*:?=\s*(\d+)", text))
        return ".".join(found[key] for key in ("VERSION", "SUBVERSION") if key in found)

    def public(self, header: str) -> str:
        """The text of a public header; empty where this version has none."""
        path = self.root / "include/public" / header
        return path.read_text(errors="replace") if path.is_file() else ""

    def resolve(self, name: str, near: Path) -> Definition | None:
        """The definition that a call of ``name`` in file ``near`` means; None if not known.

        Of several: the one in the same file, else the one whose path has most in common.
        """
        found = self.definitions.get(name)
        if not found:
            return None
        return max(found, key=lambda d: (d.file == near, _common(d.file, near), len(d.text)))

    def function(self, definition: Definition) -> Function:
        """Its statements; parsed when first asked for."""
        if definition not in self._parsed:
            self._parsed[definition] = parse(definition)
        return self._parsed[definition]

    def reaching(self, words: Iterable[str]) -> frozenset[str]:
        """Names of all functions that use one of ``words`` or call, by name, one that does."""
        seen: set[str] = set()
        todo = list(words)
        while todo:
            for caller in self._users.get(todo.pop(), ()):
                if caller not in seen:
                    seen.add(caller)
                    todo.append(caller)
        return frozenset(seen)

    @cached_property
    def _users(self) -> dict[str, set[str]]:
        users: dict[str, set[str]] = defaultdict(set)
        for name, found in self.definitions.items():
            for definition in found:
                for word in definition.words:
                    users[word].add(name)
        return users

    def _load(self) -> None:
        for part in _SOURCES:
            for path in sorted((self.root / part.format(arch=self.arch)).rglob("*.[ch]")):
                file = path.relative_to(self.root)
                if _SKIPPED.search(file.as_posix()):
                    continue
                text = path.read_text(errors="replace")
                for definition in definitions(text, file):
                    self.definitions[definition.name].append(definition)
                if "xsm_" in text:
                    for definition in macros(text, file, _HOOK):
                        self.definitions[definition.name].append(definition)


def _common(one: Path, other: Path) -> int:
    count = 0
    for left, right in zip(one.parts, other.parts, strict=False):
        if left != right:
            break
        count += 1
    return count
