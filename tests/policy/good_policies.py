"""Valid policies that tests spoil in one place, and the day they are read on."""

from __future__ import annotations

from datetime import date

#: A valid policy without warnings; the cases below each spoil one thing in it.
GOOD = """\
shype: 1
policy: {name: shop, version: "1.0"}
coalitions: [web, data]
walls:
  rivals: [red, blue]
labels:
  boss: {coalitions: all}
  front: {coalitions: [web, data], wall: [red]}
  back: {coalitions: [data], wall: [blue]}
  unlabeled: {}
host: {dom0: boss, drivers: []}
vms: {vm-1: front}
"""

#: A static one.
STATIC = GOOD + """\
static: true
vectors:
  normal: [front, back]
  service: all
"""

#: One with attested labels.
ATTESTED = GOOD.replace("wall: [red]}", "wall: [red], attested: true}") + """\
attestation:
  verifiers: {ops: MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=}
  fresh: 5 minutes
  lost: pause
"""

#: One with quotas.
QUOTAS = GOOD + """\
quotas:
  host: {vms: 20, memory: 8 GiB, bandwidth: 1 Gbit/s}
  coalitions:
    web: {vcpus: 8, memory: 4 GiB, reserved: {memory: 1 GiB}}
  labels:
    front: {vms: 2, memory: 2 GiB, reserved: {memory: 1 GiB},
            each: {cpu: 50 %, weight: 512, bandwidth: 100 Mbit/s}}
    back: {each: {bandwidth: 10 Mbit/s}}
    unlabeled: {vms: 1, each: {bandwidth: 1 Mbit/s}}
"""

#: Another one, with everything that `GOOD` has not.
RICH = """\
shype: 1
policy: {name: clinic, version: "1.4", from: "1.3", was: hospital}
coalitions:
  wards: {}
  lab: {mechanisms: [event, grant], write-up: true, was: tests}
  world: {mechanisms: [network]}
walls:
  firms: {members: [red, blue], was: rivals}
levels: {order: [public, internal, secret], categories: [names, pay]}
integrity: {order: [low, high]}
labels:
  boss: {coalitions: all}
  nic: {coalitions: all, level: [public, "secret {all}"], integrity: [low, high]}
  ward: {coalitions: [wards], level: "secret {names}", integrity: high, was: station}
  bench: {coalitions: [lab], wall: [red], level: secret, integrity: high, object-manager: true}
  desk: {coalitions: [world], wall: [blue], level: public, integrity: low, mechanisms: [event]}
guards:
  release: {from: wards, to: world, level: [public, "secret {names}"], integrity: high,
    reason: "names are removed", expires: "2099-01-31"}
host: {dom0: boss, drivers: [nic]}
vms: {vm-1: release}
resource-labels:
  mail: {coalitions: [wards], level: "secret {names}", integrity: high, was: post}
  tpm: {inaccessible: true}
  unlabeled: {level: public, integrity: low}
resources:
  - {disk: "/dev/vg0/mail-*", label: mail}
  - {disk: /dev/vg0/mail-web, coalitions: [world], level: public, integrity: low}
  - {network: br-web, coalitions: [world], level: public, integrity: low}
  - {pci: "0000:03:00.*", label: mail}
  - {irq: 16, label: mail}
  - {ioport: "0x2f8-0x2ff", label: mail}
  - {memory: "0xfed40000-0xfed44fff", label: tpm}
retired: [theatre]
"""

#: `RICH`, and assertions about it.
ASSERTED = RICH + """\
assert:
  - {never: bench -> desk, via: [grant, event], reason: "rivals"}
  - {only-through: ward -> desk, by: [release], name: one-way-out}
  - {never: "coalition world -> w*", through: dom0}
  - {exactly: [ward -> release, release -> desk], among: [wall red, release]}
  - {levels-never-decrease: everyone, except: [release, nic]}
  - {integrity-never-increases: everyone}
  - {none-reaches-both: [bench, ward], who: coalition world}
  - {none-receives-from-both: [wall red, wall blue]}
"""
#: The day on which the policies here are judged.
TODAY = date(2030, 1, 1)
