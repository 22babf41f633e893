"""docs/reference/flask-encoding.md, generated from the rules themselves.

A test compares the file with `text`; to bring it up to date, write that to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from shype.compile.flask import cil, rules
from shype.compile.flask import encoding as enc
from shype.compile.flask.rules import Allow

_HEAD = f"""\
# The FLASK encoding

Generated from `shype.compile.flask.rules`; do not edit. `shype build` writes the
same rules with the same reasons into `policy.cil`.

## Names

| In the policy | In the hypervisor |
|---|---|
| label `bank-a-db` | type `l_bank_a_db_t`, context `u:r:l_bank_a_db_t:s0` |
| dom0's label | type `{enc.DOM0_TYPE}`, context `u:r:{enc.DOM0_TYPE}:s0` |
| coalition `market` | attribute `ste_market`: the types of its labels |
| member `bank-a` of a wall | boolean `run_bank_a`: a VM with this member runs |
| any label a VM may carry | attribute `{enc.ALL_LABELS}` |
| any label that dom0 may run | attribute `{enc.MANAGED}` |
| a VM, as it sees itself | type `{enc.SELF_TYPE}` (transition at creation), one for all labels |
| dom0's end of a channel to a VM | type `{enc.CHANNEL_TYPE}` (transition at opening) |
| initial SID `xen` | type `xen_t`; likewise for every initial SID |

Hyphens become underscores; policy names have none, so no two names meet. MLS is
on with the single sensitivity `s0`: the hypervisor refuses a reload that
switches MLS on or off, so this keeps levels possible. With one level no
constraint is needed, and there is none.

## Event channels

A channel's end carries the type of the remote domain, unless a transition says
otherwise. Opening asks for `create` (opener on that type) and `bind` (that type
on the remote domain), every notification for `send`. Between two VMs this makes
`ste_X ste_X event {{ create send bind }}` the whole rule. dom0's ends have the
type `{enc.CHANNEL_TYPE}`, so dom0 needs nothing of class `event` on a VM's type
and cannot open a channel between two VMs.

## Launch windows and the Chinese Wall

All booleans are false at boot.

| Boolean | Meaning |
|---|---|
| `{enc.ENABLE}` | a launch window is open |
| `win_b0`, `win_b1`, ... | the index of the label whose window it is, lowest bit first |
| `run_MEMBER` | a VM with this member of a wall runs |
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

## What is not granted, and why

- dom0: `load_policy`, `setenforce`, `setsecparam`, `add_ocontext`: no operation
  of shype needs them, and each would let dom0 undo the policy. `compute_av`: the
  agent decides with its own security server. `relabelfrom`, `relabelto`: a label is
  for life, so that the check at creation suffices.
- dom0: `kexec`, `livepatch_op`, `microcode`, `debug`, `clearconsole`: not needed to
  run VMs; `clearconsole` would erase denials. (`xl dmesg -c` is refused.)
- dom0: `logdirty` and shadow `enable`: live migration is not part of this version.
- VMs: nothing on dom0 beyond split drivers, nothing of classes `xen`, `xen2`,
  `resource`, `security`; no `event` of their own type to themselves: a VM without
  coalition shares with nobody, not even with a VM of the same label.
- Driver domains: the same as other VMs. They serve the VMs with which they
  share a coalition through event channels and grants. Passing PCI devices to
  them needs `resource` permissions that have not been tried on a machine with
  an IOMMU, so there are none.
- Argo: `register_any_source` would admit every sender; dom0 takes no part.

## Rules

`since` marks a rule for later releases only. "Not audited" rules grant nothing: they
keep an expected refusal out of the hypervisor's log.
"""


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, group in (
        ("The hypervisor and dom0", rules.BOOT),
        ("VMs on themselves", rules.VM),
        ("Cleanup, never refused", rules.CLEANUP),
        ("dom0 and the VMs it may run", rules.MANAGE),
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
