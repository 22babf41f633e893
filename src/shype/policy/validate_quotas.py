"""Rules about quotas: that what they promise can be had, and what they forbid can be reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shype.policy.draft import DraftQuota, Ref
from shype.policy.findings import Id, error, warning
from shype.policy.findings import show as quoted
from shype.policy.quotas import Amount, read, show
from shype.policy.rules import Case, Rule
from shype.policy.source import Finding

#: Largest count of anything, and largest weight (Xen's credit2).
LARGEST = 65_535


def quotas_name_what_there_is(case: Case) -> Iterator[Finding]:
    """A quota is of a declared coalition, or of a label that a VM can carry."""
    section = case.draft.quotas
    if section is None:
        return
    if case.draft.coalitions is not None:
        yield from case.undeclared(
            [quota.name for quota in section.coalitions.values()], case.draft.coalitions,
            Id.QUOTA_UNDECLARED, "coalition", "coalitions")
    if case.draft.labels is None:
        return
    names = [quota.name for quota in section.labels.values()]
    yield from case.undeclared(names, case.vm_labels, Id.QUOTA_UNDECLARED, "label", "labels")
    for ref in names:
        if case.draft.dom0 is not None and ref.text == case.draft.dom0.text:
            yield error(
                Id.QUOTA_DOM0, ref.span,
                f"{quoted(ref.text)} is dom0's label, and dom0 takes what the boot entry gives it",
                "delete the quota; dom0's memory is Xen's option `dom0_mem`",
            )


def quotas_are_counts(case: Case) -> Iterator[Finding]:
    """Of everything at least 1, and not more than anybody has."""
    for quota in _all(case):
        for refs, smallest in ((quota.most, 1), (quota.reserved, 1)):
            for key, ref in refs.items():
                yield from _count(key, ref, smallest)
        if "weight" in quota.each:
            yield from _count("weight", quota.each["weight"], 1)


def _count(key: str, ref: Ref, smallest: int) -> Iterator[Finding]:
    if key not in ("vms", "vcpus", "weight"):
        return
    if not ref.text.isdigit() or not smallest <= int(ref.text[:9]) <= LARGEST:
        yield error(
            Id.QUOTA_RANGE, ref.span, f"{quoted(ref.text)} is not between {smallest} and {LARGEST}",
            f"write a whole number from {smallest} to {LARGEST}")


def reservations_can_be_kept(case: Case) -> Iterator[Finding]:
    """What is reserved fits into its own quota, and all of it into the host's."""
    section = case.draft.quotas
    if section is None:
        return
    for quota in _all(case):
        for key, ref in quota.reserved.items():
            promised, most = _number(key, ref), _number(key, quota.most.get(key))
            if promised is not None and most is not None and promised > most:
                yield error(
                    Id.QUOTA_RESERVED, ref.span,
                    f"{show(Amount(key), promised)} are reserved for {quoted(quota.name.text)}, "
                    f"which may have no more than {show(Amount(key), most)}",
                    "reserve less, or allow more")
    for label in section.labels.values():
        for coalition in _around(case, label):
            for key, ref in label.reserved.items():
                promised = _number(key, ref)
                most = _number(key, coalition.most.get(key))
                if promised is not None and most is not None and promised > most:
                    yield error(
                        Id.QUOTA_RESERVED, ref.span,
                        f"{show(Amount(key), promised)} are reserved for "
                        f"{quoted(label.name.text)}, and its coalition "
                        f"{quoted(coalition.name.text)} may have no more than "
                        f"{show(Amount(key), most)}",
                        "reserve less, or allow the coalition more")
    yield from _booked(case)


def _booked(case: Case) -> Iterator[Finding]:
    section = case.draft.quotas
    assert section is not None
    for amount in Amount:
        promised = 0
        last: Ref | None = None
        for quota in section.labels.values():
            if amount in quota.reserved:
                last = quota.reserved[amount]
                promised += _number(amount, last) or 0
        for coalition in section.coalitions.values():
            if amount not in coalition.reserved:
                continue
            last = coalition.reserved[amount]
            within = sum(
                _number(amount, label.reserved.get(amount)) or 0
                for label in section.labels.values() if coalition in _around(case, label))
            promised += max((_number(amount, last) or 0) - within, 0)
        if last is None:
            continue
        most = _number(amount, section.host.most.get(amount)) if section.host else None
        if most is None:
            yield error(
                Id.QUOTA_NO_HOST, last.span,
                f"what is reserved is kept free on the host, and the policy does not say what the "
                f"host has of `{amount}`",
                f"add `host: {{{amount}: ...}}` to `quotas`, or delete `reserved`")
        elif promised > most:
            yield error(
                Id.QUOTA_OVERBOOKED, last.span,
                f"{show(amount, promised)} are reserved in all, and the host may give no more than "
                f"{show(amount, most)}", "reserve less, or allow the host more")


def bandwidth_is_known(case: Case) -> Iterator[Finding]:
    """A sum of rates can be kept only if every VM in it has one; and one VM must fit."""
    section = case.draft.quotas
    if section is None or case.draft.labels is None:
        return
    for quota in _all(case):
        ref = quota.most.get(Amount.BANDWIDTH) or quota.reserved.get(Amount.BANDWIDTH)
        if ref is None:
            continue
        for name in _labels(case, quota):
            own = section.labels.get(name)
            rate = None if own is None else own.each.get(Amount.BANDWIDTH)
            if rate is None:
                yield error(
                    Id.QUOTA_NO_RATE, ref.span,
                    f"a VM of {quoted(name)} may send as much as it can, so that no sum of "
                    "bandwidth can be kept",
                    f"add `each: {{bandwidth: ...}}` to the quota of {quoted(name)}")
                continue
            one = _number(Amount.BANDWIDTH, rate)
            most = _number(Amount.BANDWIDTH, quota.most.get(Amount.BANDWIDTH))
            if one is not None and most is not None and one > most:
                yield error(
                    Id.QUOTA_IMPOSSIBLE, ref.span,
                    f"one interface of {quoted(name)} takes {show(Amount.BANDWIDTH, one)}, so that "
                    "no such VM with a network could start",
                    f"allow more, or let `each` of {quoted(name)} have less")


def quotas_can_be_reached(case: Case) -> Iterator[Finding]:
    """A quota above the one around it never decides."""
    section = case.draft.quotas
    if section is None:
        return
    pairs = [
        (label, coalition, f"its coalition {quoted(coalition.name.text)}")
        for label in section.labels.values() for coalition in _around(case, label)]
    if section.host is not None:
        pairs += [(quota, section.host, "the host")
                  for quota in (*section.labels.values(), *section.coalitions.values())]
    for inner, outer, what in pairs:
        for key, ref in inner.most.items():
            mine, theirs = _number(key, ref), _number(key, outer.most.get(key))
            if mine is not None and theirs is not None and mine > theirs:
                yield warning(
                    Id.QUOTA_UNREACHABLE, ref.span,
                    f"{quoted(inner.name.text)} may have {show(Amount(key), mine)}, and {what} no "
                    f"more than {show(Amount(key), theirs)}",
                    "allow less here, or more there")


def _all(case: Case) -> tuple[DraftQuota, ...]:
    section = case.draft.quotas
    if section is None:
        return ()
    return (*([section.host] if section.host else []), *section.coalitions.values(),
            *section.labels.values())


def _around(case: Case, label: DraftQuota) -> tuple[DraftQuota, ...]:
    """The quotas of the coalitions of a label."""
    section = case.draft.quotas
    assert section is not None
    mine = _coalitions(case).get(label.name.text, frozenset())
    return tuple(quota for name, quota in section.coalitions.items() if name in mine)


def _labels(case: Case, quota: DraftQuota) -> tuple[str, ...]:
    """The labels that count for a quota, dom0's not."""
    section = case.draft.quotas
    assert section is not None
    dom0 = case.draft.dom0.text if case.draft.dom0 is not None else None
    shared = _coalitions(case)
    if quota is section.host:
        found = list(shared)
    elif quota in section.coalitions.values():
        found = [name for name, own in shared.items() if quota.name.text in own]
    else:
        found = [quota.name.text] if quota.name.text in shared else []
    return tuple(name for name in found if name != dom0)


def _coalitions(case: Case) -> Mapping[str, frozenset[str]]:
    """Those of each label; a guard's are its two."""
    everything = frozenset(case.draft.coalitions or {})
    found = {
        label.name.text: everything if label.everything is not None
        else frozenset(ref.text for ref in label.coalitions)
        for label in case.draft.carried}
    for name, guard in case.draft.guards.items():
        found[name] = frozenset(
            ref.text for ref in (guard.source, guard.sink) if ref is not None)
    return found


def _number(key: str, ref: Ref | None) -> int | None:
    return None if ref is None else read(Amount(key), ref.text)


RULES: tuple[Rule, ...] = (
    quotas_name_what_there_is,
    quotas_are_counts,
    reservations_can_be_kept,
    bandwidth_is_known,
)
ADVICE: tuple[Rule, ...] = (quotas_can_be_reached,)
