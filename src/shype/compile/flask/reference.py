"""docs/reference/flask-encoding.md, generated from the rules themselves.

A test compares the file with `text`; to bring it up to date, write that to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from shype.compile.flask import cil, constraining, objects, rules
from shype.compile.flask import encoding as enc
from shype.compile.flask.rules import Allow


def _constraints() -> str:
    lines = ["| Class | Permission | Levels of source and target | Write-up | Reason |",
             "|---|---|---|---|---|"]
    for rule in constraining.RULES:
        blind = f"`{rule.blind}`" if rule.blind else "-"
        lines.append(f"| `{rule.cls}` | `{rule.permission}` | `{rule.needs}` | {blind} | "
                     f"{rule.reason} |")
    return "\n".join(lines) + "\n"


def _head() -> str:
    return _HEAD.replace("{CONSTRAINTS}", _constraints())


_HEAD = f"""\
# The FLASK encoding

Generated from `shype.compile.flask.rules`; do not edit. `shype build` writes the
same rules with the same reasons into `policy.cil`.

## Names

| In the policy | In the hypervisor |
|---|---|
| label `bank-a-db` | type `l_bank_a_db_t`, context `u:r:l_bank_a_db_t:s0` |
| dom0's label | type `{enc.DOM0_TYPE}`, context `u:r:{enc.DOM0_TYPE}:s0` |
| coalition `market` | attribute `ste_market`: the types of its labels, but for trusted ones |
| those with event channels on | `event_market`, if some have them off; so `grant_`, `argo_` |
| member `bank-a` of a wall | boolean `run_bank_a`: a VM with this member runs |
| any label a VM may carry, retired ones too | attribute `{enc.ALL_LABELS}` |
| any label that dom0 may run | attribute `{enc.MANAGED}` |
| a VM, as it sees itself | type `{enc.SELF_TYPE}` (transition at creation), one for all labels |
| dom0's end of a channel to a VM | type `{enc.CHANNEL_TYPE}` (transition at opening) |
| a trusted label's end | type `{enc.SPEAKING_TYPE}` if it may notify, else `{enc.MUTE_TYPE}` |
| the peers of trusted label `release` | attributes `to1_release`, `to2_release`, ... |
| what no level constraint concerns | attribute `{enc.EXEMPT}` |
| a label's name before (`was: old`) | type alias `l_old_t` |
| resource label `card` of an IRQ | type `irq_card_t`; entry 4's own label: `irq_4_t` |
| labels that may use the same resources | attributes `users1`, `users2`, ... |
| initial SID `xen` | type `xen_t`; likewise for every initial SID |

Hyphens become underscores; policy names have none, so no two names meet.

## Levels

MLS is always on, because the hypervisor refuses a reload that switches it on or
off. Without levels there is one sensitivity, `s0`, and no constraint.

With levels, `s0` is the lowest sensitivity and `c0` the first category, in file
order. Integrity is written inverted as further categories: one for each step of its
order that a label does not reach, then one for each integrity category that it does
not hold. So one comparison, `dom`, decides both: level b dominates level a iff
information may flow from a to b. A range's low end has its lowest confidentiality with
its highest integrity, and its high end the opposite. dom0 has all levels, as
`u:r:dom0_t:s0-s2:c0.c4`; initial SIDs and hardware have `s0`.

A reload converts contexts by name, so a running VM keeps the *text* of its level:
whoever inserts a sensitivity or a category before others changes what it means
(`shype plan` says so).

Between two ordinary labels, those of one level, `mlsconstrain` takes away:

{{CONSTRAINTS}}
"Write-up" needs a coalition with `write-up: true` that opens the mechanism and in
which both labels are. Constraints concern neither dom0 (`{enc.DOM0_TYPE}`,
`{enc.CHANNEL_TYPE}`) nor a VM itself (`{enc.SELF_TYPE}`), nor trusted labels and their channels.
Each nests to the left, in groups: the hypervisor evaluates with a stack of five places.

## Trusted labels

Guards, and driver domains with a range of levels, are in no coalition's attribute.
What they may do with each other label is computed by the security server and
written as rules to exactly those peers, per permission and direction: the direction of a
guard cannot be seen in two levels.

## Event channels

A channel's end carries the type of the remote domain, unless a transition says
otherwise. Opening asks for `create` (opener on that type) and `bind` (that type
on the remote domain), every notification for `send`. Between two VMs this makes
`ste_X ste_X event {{ create send bind }}` the whole rule. The level of an end is the
low level of the domain that it belongs to, so `bind` compares the levels of the two VMs.
A trusted label's ends have a type by which it may notify or one by which it may not; its
ordinary peer's end has the trusted label's type, and needs `send` on that to notify. dom0's
ends have the
type `{enc.CHANNEL_TYPE}`, so dom0 needs nothing of class `event` on a VM's type
and cannot open a channel between two VMs.

## Launch windows and the Chinese Wall

All booleans but `boot_manager` are false at boot.

| Boolean | Meaning |
|---|---|
| `{enc.ENABLE}` | a launch window is open |
| `win_b0`, `win_b1`, ... | the index of the label whose window it is, lowest bit first |
| `run_MEMBER` | a VM with this member of a wall runs |
| `load_open` | another policy may be loaded; only with `updates: live` |
| `boot_manager` | only with a manager, and the only one that is true at boot: dom0 may build it |
| `policy_DIGEST` | in no rule; a host asks for it to learn which policy is loaded |

The index of a label is its position in the policy file, dom0's label left out
(`window` in the manifest). For label number 5 of eight, whose wall also has
the member `bank-b`:

    (booleanif (and (and (and (and {enc.ENABLE} win_b0) (not win_b1)) win_b2) (not run_bank_b))
      (true (allow {enc.DOM0_TYPE} l_NAME_t (domain (create)))))

Binary coding opens one window at a time by construction and keeps the number of
booleans small; the hypervisor's log line and its work at every change grow
with it. Conditions nest to the left, in groups of 64: the hypervisor evaluates
them with a stack of ten places. `create` is asked for when the domain is
created and never again. There is no such rule for a label with a coalition
that dom0 is not in, and none for unlabelled domains (`domU_t`).

For a label that is `locked`, all of "building them" below stands in the same condition beside
`create`: whoever cannot create a VM of it cannot reach into one either. The others are then the
attribute `{enc.UNLOCKED}`.

With `updates: live`, the reference monitor (dom0, or the manager) has `security load_policy`, and
`xen debug` (which prints the grant tables), under the boolean `load_open`; otherwise there is
neither the boolean nor the rules.

## Hardware

IRQs, I/O ports, memory and PCI devices that the policy names have object contexts; others
have the types of initial SIDs (`irq_t`, `ioport_t`, `iomem_t`, `device_t`), which a VM may use
only if the policy has a resource label `unlabeled`. Levels and coalitions decide at compile time:
a VM has `use_` permissions on what it may read and write. dom0's kernel can use every
device at boot, an `inaccessible` one too, but cannot give that to anybody.

The hypervisor looks ranges up in ascending order and takes what it has not met by then for
unnamed. secilc sorts them by size, so the compiler puts the binary's two lists in order,
and validation refuses any other.

## Object managers

A label with `object-manager` has `security {{ check_context compute_av }}`. The policy then has one
class after those of the hypervisor, `{objects.CLASS} {{ read write }}`, and rules of it between
labels, `askers1`, `objects2`, ...: the decisions `disk.read` and `disk.write`. The hypervisor
itself never asks about that class ([protocol](object-manager.md)).

## What is not granted, and why

- dom0: `load_policy` (but for live updates, above), `setenforce`, `setsecparam`, `add_ocontext`:
  no operation of shype needs them, and each would let dom0 undo the policy. `relabelfrom` and
  `relabelto`: a label is for life, so that the check at creation suffices.
- dom0: `kexec`, `livepatch_op`, `microcode`, `debug` (but for live updates), `clearconsole`: not
  needed to run VMs; `clearconsole` would erase denials. (`xl dmesg -c` is refused.)
- dom0: shadow `enable`: shadow paging is not used.
- VMs: nothing on dom0 beyond split drivers, nothing of classes `xen`, `xen2`,
  `resource`, `security` (but for object managers); no `event` of their own type to themselves: a VM
  without coalition shares with nobody, not even with a VM of the same label.
- Driver domains: the same as other VMs, and the hardware that the policy gives them. A PCI
  device needs an IOMMU that remaps interrupts (`use_iommu` only): without one it reaches all
  memory. HVM guests with a device model in dom0 would need `hvm {{ bind_irq }}` as well.
- Retired labels: cleanup and themselves, no coalition, no `create`, nothing of dom0's service.
- Argo: `register_any_source` would admit every sender; dom0 takes no part.

## Rules

`since` marks a rule for later releases only. "Not audited" rules grant nothing: they
keep an expected refusal out of the hypervisor's log.
"""


def text() -> str:
    """The whole page."""
    parts = [_head()]
    for title, group in (
        ("The hypervisor and dom0", rules.BOOT),
        ("The reference monitor: dom0, without a manager", rules.monitor(enc.DOM0_TYPE)),
        ("The reference monitor: a manager", rules.manager("l_MANAGER_t")),
        ("VMs on themselves", rules.VM),
        ("Cleanup, never refused", [*rules.CLEANUP, *rules.ENDING]),
        ("dom0 and the VMs it may run: building them", rules.BUILD),
        ("dom0 and the VMs it may run: serving them", rules.SERVE),
        ("Labels of one coalition", [
            rule for mechanism in cil.MECHANISMS for rule in rules.sharing("ste_X", mechanism)
        ]),
    ):
        parts.append(f"\n### {title}\n\n{_table(group)}")
    return "".join(parts)


def _table(group: Iterable[Allow]) -> str:
    lines = ["| Source | Target | Class | Permissions | Reason |", "|---|---|---|---|---|"]
    for rule in group:
        notes = ""
        if rule.since is not None:
            notes = " (since {}.{})".format(*rule.since)
        elif rule.audit_only:
            notes = " (not audited)"
        lines.append(
            f"| `{rule.source}` | `{rule.target}` | `{rule.cls}` | "
            f"`{' '.join(rule.permissions)}`{notes} | {rule.reason} |"
        )
    return "\n".join(lines) + "\n"
