"""The policies of areas that have no example or lab test to take them from, and all in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from tests.lab.conftest import EXAMPLES
from tests.lab.test_store import POLICY as STORE

#: Two coalitions with disks, bridges and ports of their own.
SHOP = """\
shype: 1
policy: {name: shop, version: "1.0"}
coalitions: [red, blue]
labels:
  manager: {coalitions: all}
  red-vm: {coalitions: [red]}
  blue-vm: {coalitions: [blue]}
resources:
  - {disk: "/srv/red-*", coalitions: [red]}
  - {disk: "/srv/blue-*", coalitions: [blue]}
  - {network: xenbr0, coalitions: [red]}
  - {network: br-blue, coalitions: [blue]}
  - {ioport: "0x2f8-0x2ff", coalitions: [red]}
  - {ioport: "0x3e8-0x3ef", coalitions: [blue]}
host: {dom0: manager}
vms: {red: red-vm, try: red-vm, blue: blue-vm}
"""
#: A driver domain that serves one of two coalitions; and a sealed host.
SERVED = """\
shype: 1
policy: {name: served, version: "1.0"}
coalitions: [red, blue]
labels:
  manager: {coalitions: all}
  netd: {coalitions: [red]}
  red-vm: {coalitions: [red]}
  blue-vm: {coalitions: [blue]}
host: {dom0: manager, drivers: [netd]}
vms: {netd: netd, red: red-vm, blue: blue-vm, red-2: red-vm, blue-2: blue-vm}
static: true
vectors:
  normal: [netd, red-vm, blue-vm]
  service: [netd]
"""
#: VMs with TPMs.
DESKS = """\
shype: 1
policy: {name: desks, version: "1.0"}
coalitions: [work, play]
labels:
  manager: {coalitions: all}
  desk: {coalitions: [work], vtpm: true}
  old: {coalitions: [work], vtpm: true}
  toy: {coalitions: [play], vtpm: true}
host: {dom0: manager}
vms: {desk: desk, old: old, toy: toy}
"""
BANKS = (EXAMPLES / "banks.yaml").read_text()
#: These agree about whatever has the same name, but for one bridge.
TOGETHER = (BANKS, SHOP, SERVED, STORE, DESKS)


def joined(texts: Sequence[str] = TOGETHER) -> str:
    """One policy of several: what stands in one of them, and of a resource's entries the first.

    What is said of a whole policy (`assert`, `static`, `vectors`) is left out.
    """
    made: dict[str, Any] = {"shype": 1, "policy": {"name": "joined", "version": "1.0"}}
    for policy in map(yaml.safe_load, texts):
        coalitions = policy["coalitions"]
        if isinstance(coalitions, list):
            coalitions = {name: {} for name in coalitions}
        for key, value in ({**policy, "coalitions": coalitions}).items():
            if key in ("coalitions", "walls", "labels", "vms", "host"):
                made[key] = {**made.get(key, {}), **value}
        known = {_named(one) for one in made.setdefault("resources", [])}
        made["resources"] += [
            one for one in policy.get("resources", []) if _named(one) not in known]
    text: str = yaml.safe_dump(made, sort_keys=False)
    return text


def _named(resource: dict[str, Any]) -> tuple[str, str]:
    kind = next(key for key in resource if key not in ("coalitions", "level"))
    return kind, str(resource[kind])
