"""docs/reference/xen-permission-map.md, generated from the map.

A test compares the two; ``python -m tests.compile.permission_page`` writes it anew.
"""

from __future__ import annotations

from shype.compile.flask import tables
from shype.compile.flask.permissions.permission_map import (
    Bandwidth,
    Entry,
    Mechanism,
    everything,
)

_HEAD = """\
# The Xen permission map

Generated from `src/shype/compile/flask/permissions/map.toml`; do not edit.

What information does a FLASK permission let flow, and which way? SETools' own map has none
of Xen's classes, and what is not mapped counts there as "no flow". This is a map of every
permission of {versions}, each with a reason and the file of the Xen tree it was read from.
`shype analyze` uses it ([its page](analyze.md)); there a permission without an entry is an
error.

    shype permission-map --xen 4.17                    # as a table
    shype permission-map --xen 4.17 --format json
    shype permission-map --xen 4.17 --format setools > xen.map
    seinfoflow -p POLICY -m xen.map -s isolated_domU_t -t domU_t -A

## How to read it

Subject and object are those of the check in the hypervisor. *Read*: information flows from
the object to the subject. *Write*: from the subject to the object. The word says how much:

{bandwidths}

*Lasts*: what it sets up, such as a mapping, goes on without a further check, even when one
of the two has another label by then.

Not listed: that a call succeeds or fails tells its caller something of the object. That is
so for every permission, and would make every one two-way.

Event channels have types of their own. `send` is from a domain to a channel's type, and
`bind` from that type to the domain at the other end: only together are they a flow
between two domains.

## Mechanisms

{mechanisms}

## What stands out

- `domain getvcpuinfo` is not only a read: flask_domctl() checks XEN_DOMCTL_setvnumainfo as
  `current_has_perm(d, SECCLASS_DOMAIN, DOMAIN2__SET_VNUMAINFO)`, and that bit of class
  `domain` is `getvcpuinfo`. So whoever may read the state of a virtual processor may set a
  domain's NUMA layout, and nothing ever asks for `domain2 set_vnumainfo`.
- `domain setdebugging` is as good as `mmu map_read` and `map_write`: gdbsx reads and writes
  a domain's memory under it.
- `domain transition` moves a domain with all its memory to another label.
- `mmu updatemp` writes entries of the machine-to-physical table, which every PV guest can
  read: a broadcast to PV guests, even where the object is the domain itself.
- `security setbool` writes what every domain can read: there is no check for reading booleans.
- `resource use_noiommu` admits a device that can read and write all memory of the host.

## A map of your own

A policy can have classes of its own, for object managers such as XenStore's. Describe them
in a file of the same form and give it with `--map`:

```toml
[xenstore]
read = {{ read = "bulk", by = "control", why = "reads a node", source = "xen/none" }}
```

`read` and `write` are how much flows (nothing if not there), `by` is the mechanism; `since`
and `until` limit an entry to releases. An entry for one of Xen's permissions replaces shype's.

"""


def text() -> str:
    """The whole page."""
    versions = tables.shipped()
    bandwidths = _table(
        ("Word", "Weight in SETools", "Meaning"),
        [(f"`{band.value}`", str(band.weight), band.meaning) for band in Bandwidth],
    )
    mechanisms = _table(
        ("Mechanism", "Meaning"), [(f"`{kind.value}`", kind.meaning) for kind in Mechanism]
    )
    parts = [_HEAD.format(
        versions=f"Xen {versions[0].removeprefix('xen-')} to {versions[-1].removeprefix('xen-')}",
        bandwidths=bandwidths, mechanisms=mechanisms,
    )]
    entries = everything()
    for cls in dict.fromkeys(entry.cls for entry in entries):
        parts.append(f"## Class {cls}\n\n" + _table(
            ("Permission", "Read", "Write", "By", "Why", "Source"),
            [_row(entry) for entry in entries if entry.cls == cls],
        ) + "\n")
    return "\n".join(parts).rstrip() + "\n"


def _row(entry: Entry) -> tuple[str, ...]:
    when = " (lasts)" if entry.lasts else ""
    if entry.since:
        when += " since {}.{}".format(*entry.since)
    if entry.until:
        when += " until {}.{}".format(*entry.until)
    return (
        f"`{entry.permission}`{when}", entry.read.value if entry.read else "-",
        entry.write.value if entry.write else "-", entry.mechanism.value, entry.why,
        f"`{entry.source}`",
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

