"""The tree of a policy file as plain values for jsonschema, and where each came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shype.policy.yaml_source import Mapping, Node, Scalar, Sequence

#: How to get to a value: keys and indices.
Path = tuple[str | int, ...]


class Opaque:
    """A YAML value that no policy has anywhere: a float, a date, a binary."""


@dataclass(slots=True)
class Place:
    """A node in the tree, the key it stands under, and its keys if it is a mapping."""

    node: Node
    key: Scalar | None
    keys: dict[str, Scalar]


class Index:
    """Turns the tree into plain values for jsonschema, and remembers where each came from."""

    def __init__(self) -> None:
        self._places: dict[Path, Place] = {}

    def __getitem__(self, path: Iterable[str | int]) -> Place:
        return self._places[tuple(path)]

    def instance(self, node: Node, path: Path, key: Scalar | None = None) -> Any:
        """The value of ``node``, which stands at ``path`` (under ``key``), and of all in it."""
        place = self._places[path] = Place(node, key, {})
        if isinstance(node, Sequence):
            return [self.instance(item, (*path, i)) for i, item in enumerate(node.items)]
        if isinstance(node, Mapping):
            place.keys = {name.text: name for name, _ in node.entries}
            return {
                name.text: self.instance(value, (*path, name.text), name)
                for name, value in node.entries
            }
        match node.kind:
            case "str":
                return node.text
            case "int":
                return int(node.text)
            case "bool":
                return node.text.lower() in ("yes", "true", "on")
            case "null":
                return None
        return Opaque()
