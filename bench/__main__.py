"""`make bench`: what the hypervisor's checks cost, with and without shype.

Counts guest instructions under QEMU's -icount, so the figures are exact and do not
depend on the machine. Each row is a host booted for it; ratios are to Xen's own reference
policy (what shype adds to FLASK) and to XSM disabled (what FLASK costs at all).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.policies import write
from shype.cli import output
from shype.compile.flask.build import build
from shype.lab import cost
from shype.lab.bulk import DISK, Bulk, configure, make_disk, transfer
from shype.lab.cost import Cost, Subject
from shype.policy.loader import load
from shype.policy.manifest import Bundle, load_bundle
from shype.policy.names import LabelName

SIZES = (10, 100, 1000, 5000)
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "banks.yaml"
#: What the bulk transfers use; a VM gets no disk and no network without a label.
RESOURCES = f"""
resources:
  - {{disk: {DISK}, coalitions: [bank-a]}}
  - {{network: xenbr0, coalitions: [bank-a]}}
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted on one host; ``bulk`` only where asked for."""

    name: str
    cost: Cost
    bulk: Bulk | None


def variants(scratch: Path, sizes: Sequence[int]) -> Iterator[Subject]:
    """The hosts, baselines first; guests carry the first label of the policy."""
    example = scratch / EXAMPLE.name
    example.write_text(EXAMPLE.read_text() + RESOURCES)
    yield from cost.subjects(*_compiled(example, scratch))
    for size in sizes:
        bundle, label = _compiled(write(scratch / f"scale-{size}.yaml", size), scratch)
        yield replace(cost.subjects(bundle, label)[-1], name=f"FLASK, {size} labels by shype")


def _compiled(path: Path, scratch: Path) -> tuple[Bundle, LabelName]:
    policy = load(path).policy
    output.note(f"building {policy.name} ...")
    build(policy, target="xen-4.17", out=scratch / path.stem)
    return load_bundle(scratch / path.stem), policy.guests[0].name


def measure(subject: Subject, *, bulk: bool) -> Figures:
    """Boot, start one guest, count."""
    lab = subject.boot(configure(), make_disk) if bulk else subject.boot()
    with lab:
        return Figures(subject.name, cost.measure(lab), transfer(lab) if bulk else None)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all variants and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, metavar="LABELS")
    parser.add_argument("--no-bulk", action="store_true", help="leave out network and disk")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    done: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="shype-bench-") as name:
        for number, variant in enumerate(variants(Path(name), args.sizes)):
            began = time.monotonic()
            output.note(f"{variant.name} ...")
            bulk = not args.no_bulk and number < 3
            done.append(measure(variant, bulk=bulk))
            output.note(f"  {time.monotonic() - began:.0f} s")
    report(done, as_json=args.json)
    return 0


def report(done: Sequence[Figures], *, as_json: bool) -> None:
    """Tables, or JSON: instructions for each operation and ratios."""
    disabled, reference = done[0], done[1]
    if as_json:
        print(json.dumps([
            {"host": f.name, **f.cost.to_json(), **(f.bulk.to_json() if f.bulk else {})}
            for f in done
        ], indent=2))
        return
    for title, base in (("to the reference policy", reference), ("to XSM disabled", disabled)):
        rows = [
            (f.name, *(_cell(value, base_value) for value, base_value in zip(
                _values(f.cost), _values(base.cost), strict=True)))
            for f in done
        ]
        output.table(f"instructions per operation (ratio {title})",
                     ("HOST", "event send", "grant map", "grant unmap", "grant copy"), rows)
    bulk = [
        (f.name, *(_cell(value, base_value) for value, base_value in zip(
            f.bulk.values(), disabled.bulk.values(), strict=True)))
        for f in done if f.bulk and disabled.bulk
    ]
    if bulk:
        output.table("bulk transfer, million instructions (ratio to XSM disabled)",
                     ("HOST", "net from VM", "net to VM", "disk read", "disk write"), bulk)


def _values(counted: Cost) -> tuple[float, ...]:
    return (counted.send, counted.map, counted.unmap, counted.copy)


def _cell(value: float, base: float) -> str:
    return f"{value:.1f} ({value / base:.4f})"


if __name__ == "__main__":
    sys.exit(main())
