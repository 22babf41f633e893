"""What runs now, as OpenMetrics text (https://prometheus.io/docs/specs/om/open_metrics_spec/), for
Prometheus or for node_exporter's directory of text files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shype.meter.account import Account
from shype.meter.head import Head
from shype.meter.usage import Usage

#: What a scraper is told that it gets.
CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: Name, unit, what it is, and the value.
_COUNTERS: tuple[tuple[str, str, str, Callable[[Usage], float]], ...] = (
    ("cpu_seconds", "seconds", "Time that virtual processors ran.", lambda u: u.cpu_ns / 1e9),
    ("memory_byte_seconds", "", "Memory held, times how long.", lambda u: u.memory_bs),
    ("disk_read_bytes", "bytes", "Read from disks.", lambda u: u.disk_read_bytes),
    ("disk_written_bytes", "bytes", "Written to disks.", lambda u: u.disk_written_bytes),
    ("disk_reads", "", "Reads from disks.", lambda u: u.disk_reads),
    ("disk_writes", "", "Writes to disks.", lambda u: u.disk_writes),
    ("net_received_bytes", "bytes", "Received by the VM.", lambda u: u.net_received_bytes),
    ("net_sent_bytes", "bytes", "Sent by the VM.", lambda u: u.net_sent_bytes),
    ("net_received_packets", "", "Received by the VM.", lambda u: u.net_received_packets),
    ("net_sent_packets", "", "Sent by the VM.", lambda u: u.net_sent_packets),
)


def render(head: Head) -> str:
    """All series, one for each run that goes on, as of the last sample."""
    return "\n".join([*_lines(head), "# EOF", ""])


def _lines(head: Head) -> Iterator[str]:
    accounts = [head.accounts[run] for run in sorted(head.accounts)]
    for name, unit, help, value in _COUNTERS:
        full = f"shype_vm_{name}"
        yield f"# TYPE {full} counter"
        if unit:
            yield f"# UNIT {full} {unit}"
        yield f"# HELP {full} {help}"
        for account in accounts:
            yield f"{full}_total{{{_labels(account)}}} {_number(value(account.usage))}"
    yield "# TYPE shype_vm_memory_bytes gauge"
    yield "# UNIT shype_vm_memory_bytes bytes"
    yield "# HELP shype_vm_memory_bytes Memory held now."
    for account in accounts:
        yield f"shype_vm_memory_bytes{{{_labels(account)}}} {account.memory}"
    yield "# TYPE shype_vm_coalition info"
    yield "# HELP shype_vm_coalition The coalitions of a VM's label."
    for account in accounts:
        for coalition in account.run.coalitions:
            yield (f'shype_vm_coalition_info{{vm="{_quoted(account.run.vm)}",'
                   f'coalition="{_quoted(coalition)}"}} 1')
    yield "# TYPE shype_meter_records counter"
    yield "# HELP shype_meter_records Records in the ledger."
    yield f"shype_meter_records_total {head.seq}"


def _labels(account: Account) -> str:
    run = account.run
    words = {"vm": run.vm, "label": run.label or "", "uuid": run.uuid, "domid": str(run.domid)}
    return ",".join(f'{key}="{_quoted(value)}"' for key, value in words.items())


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(value) if isinstance(value, float) else str(value)

