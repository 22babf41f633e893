"""Hosts: which labels may start on each, and which run there always.

Who may start is said by the policy (dom0 must be authorized), by a file
(docs/reference/walls.md), and by those who run always: what they exclude
never starts.  Driver domains are taken to run always, unless the file says
otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from shype.analysis.walls.coexistence import Walls
from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.decision.security_server import SecurityServer, unknown_label
from shype.policy.names import LabelName
from shype.policy.source import Span

#: Hosts of one question; and the size of a file that names them, in bytes.
MOST = 1_000
_LIMIT = 4 * 1024 * 1024
_KEYS = frozenset({"name", "count", "dom0", "always", "labels"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a label never starts on a host: a sentence, and the rules that say so.

    ``by``: the label that always runs and excludes it; None if it is not for
    a wall.
    """

    sentence: str
    rules: tuple[Span, ...]
    by: LabelName | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A host. Every label of a VM is in ``always``, in ``open`` (may start) or in ``refused``."""

    name: str
    always: tuple[LabelName, ...]
    open: frozenset[LabelName]
    refused: Mapping[LabelName, Refusal]

    def runs(self, label: LabelName) -> bool:
        """Whether a VM with ``label`` ever runs here."""
        return label in self.open or label in self.always

    def same(self, other: Site) -> bool:
        """Whether they differ in nothing but the name."""
        return self.always == other.always and (
            self.open is other.open or self.open == other.open  # the first is quick
        )


def site(
    walls: Walls, name: str = "host 1", *, dom0: LabelName | None = None,
    always: Sequence[LabelName] | None = None, labels: Iterable[LabelName] | None = None,
) -> Site:
    """A host of the policy, by default as its ``host:`` says.

    ``labels``: only these may start there. Raises BadInput ``label.unknown``.
    """
    policy = walls.server.policy
    server = walls.server
    if dom0 is not None and dom0 != policy.host.dom0:
        if dom0 not in policy.labels:
            raise unknown_label(dom0, policy.labels)
        server = SecurityServer(replace(policy, host=replace(policy.host, dom0=dom0)))
    if always is None:
        always = [n for n in policy.labels if n in policy.host.drivers]
    only = None if labels is None else frozenset(labels)
    for label in (*always, *(only or ())):
        walls.server.authorize(label)  # an unknown label is an error
    refused: dict[LabelName, Refusal] = {}
    # A label that is dom0's on another host may hold members.
    running = [server.policy.host.dom0]
    starting: list[LabelName] = []
    for label in dict.fromkeys((*always, *(guest.name for guest in policy.guests))):
        decision = server.authorize(label)
        against = next((other for other in running if not walls.coexist(other, label)), None)
        if not decision.permitted:
            refused[label] = Refusal(decision.sentence, decision.rules)
        elif only is not None and label not in only and label not in always:
            refused[label] = Refusal(f"{label} is not among the labels of {name}.", ())
        elif against is not None:
            conflict = walls.server.together(label, against)
            refused[label] = Refusal(
                f"{against} always runs on {name}. {conflict.sentence}", conflict.rules, against
            )
        elif label in always:
            running.append(label)
        else:
            starting.append(label)
    return Site(name, tuple(running[1:]), frozenset(starting), refused)


def alike(walls: Walls, count: int) -> tuple[Site, ...]:
    """``count`` hosts as the policy says, named ``host 1`` and so on."""
    if not 1 <= count <= MOST:
        _invalid(f"there are from 1 to {MOST} hosts, not {count}")
    one = site(walls)
    return tuple(replace(one, name=f"host {n}") for n in range(1, count + 1))


def read(walls: Walls, path: Path) -> tuple[Site, ...]:
    """The hosts that a JSON file names.

    Raises BadInput ``walls.hosts`` or ``label.unknown``.
    """
    try:
        data = read_regular(path, _LIMIT)
        if len(data) > _LIMIT:
            _invalid(f"{path} has more than {_LIMIT >> 20} MiB")
        value = json.loads(data)
    except OSError as error:
        _invalid(f"cannot read {path}: {error.strerror or error}")
    except (ValueError, RecursionError) as error:
        _invalid(f"{path} is no JSON ({error})")
    return from_json(walls, value)


def from_json(walls: Walls, value: object) -> tuple[Site, ...]:
    """As `read`, from a JSON value."""
    if not isinstance(value, dict) or {*value} != {"hosts"} or not isinstance(
            value["hosts"], list) or not value["hosts"]:
        _invalid("it is not an object with a list `hosts` of at least one host")
    made: list[Site] = []
    for entry in value["hosts"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            _invalid("a host is an object with a `name`")
        name = entry["name"]
        if not {*entry} <= _KEYS:
            _invalid(f"{name}: unknown key {min({*entry} - _KEYS)!r}")
        count = entry.get("count", 1)
        if type(count) is not int or not 1 <= count <= MOST - len(made):
            _invalid(f"{name}: `count` is a number from 1, and there are at most {MOST} hosts")
        dom0 = entry.get("dom0")
        if not (dom0 is None or isinstance(dom0, str)):
            _invalid(f"{name}: `dom0` is a label")
        one = site(
            walls, name, dom0=None if dom0 is None else LabelName(dom0),
            always=_labels(entry, "always"), labels=_labels(entry, "labels"),
        )
        made += [one] if count == 1 else [
            replace(one, name=f"{name} {n}") for n in range(1, count + 1)
        ]
    if len({one.name for one in made}) != len(made):
        _invalid("two hosts have the same name")
    return tuple(made)


def _labels(entry: Mapping[str, object], key: str) -> list[LabelName] | None:
    found = entry.get(key)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        _invalid(f"{entry['name']}: `{key}` is a list of labels")
    return [LabelName(name) for name in found]


def _invalid(what: str) -> NoReturn:
    raise BadInput("walls.hosts", f"the hosts cannot be read: {what}",
                   "give a number, or a file as docs/reference/walls.md shows it")


def not_dom0(walls: Walls, label: LabelName) -> None:
    """Raises BadInput ``walls.dom0`` for dom0's label, about which there is nothing to ask."""
    if label == walls.server.policy.host.dom0:
        raise BadInput(
            "walls.dom0", f"{label} is dom0's own label, and dom0 always runs",
            "ask about a label that a VM may carry",
        )
