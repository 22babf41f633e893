"""What VMs may take together, what is kept for them, and what each of them is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shype.policy.names import CoalitionName, LabelName
from shype.policy.source import Span


class Amount(StrEnum):
    """What is counted: VMs, their virtual processors (at most), their memory (at most, KiB), and
    the rate of their network interfaces (bit/s, as ``each`` caps it)."""

    VMS = "vms"
    VCPUS = "vcpus"
    MEMORY = "memory"
    BANDWIDTH = "bandwidth"


@dataclass(frozen=True, slots=True)
class Each:
    """What every VM of a label is held to, however much is free.

    ``cpu``: percent of one processor (Xen's credit2 ``cap``); ``weight``: its share when
    processors are short (256 unless said); ``bandwidth``: bit/s that each interface sends, and
    as much that it receives.
    """

    cpu: int | None = None
    weight: int | None = None
    bandwidth: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """``most``: the sum over all VMs in question on one host; ``reserved``: what others leave."""

    span: Span
    most: Mapping[Amount, int] = field(default_factory=dict)
    reserved: Mapping[Amount, int] = field(default_factory=dict)
    each: Each = Each()


@dataclass(frozen=True, slots=True)
class Quotas:
    """The section ``quotas``. Only a label's has ``each``, and the host's reserves nothing."""

    span: Span
    host: Quota | None = None
    coalitions: Mapping[CoalitionName, Quota] = field(default_factory=dict)
    labels: Mapping[LabelName, Quota] = field(default_factory=dict)

    def each(self, label: LabelName) -> Each:
        """What a VM of ``label`` is held to."""
        quota = self.labels.get(label)
        return Each() if quota is None else quota.each


_MEMORY = {"KiB": 1, "MiB": 1 << 10, "GiB": 1 << 20, "TiB": 1 << 30}
_RATE = {"kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}


def show(amount: Amount, number: int) -> str:
    """``number`` for people, in the greatest unit that fits exactly."""
    if amount is Amount.MEMORY:
        unit = next(u for u in reversed(_MEMORY) if number % _MEMORY[u] == 0 or u == "KiB")
        return f"{number // _MEMORY[unit]} {unit}"
    if amount is Amount.BANDWIDTH:
        unit = next((u for u in reversed(_RATE) if number % _RATE[u] == 0), "")
        return f"{number // _RATE[unit]} {unit}/s" if unit else f"{number} bit/s"
    word = {Amount.VMS: "VM", Amount.VCPUS: "vCPU"}[amount]
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def read(amount: Amount, text: str) -> int | None:
    """The number that ``text`` says in a policy; None if it says none."""
    if amount in (Amount.VMS, Amount.VCPUS):
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    number, _, unit = text.partition(" ")
    units = _MEMORY if amount is Amount.MEMORY else _RATE
    unit = unit if amount is Amount.MEMORY else unit.removesuffix("/s")
    if not number.isdigit() or unit not in units or len(number) > 7:
        return None
    return int(number) * units[unit]


def percent(text: str) -> int | None:
    """``50 %`` as a number."""
    number = text.removesuffix(" %")
    return int(number) if number != text and number.isdigit() and len(number) < 6 else None
