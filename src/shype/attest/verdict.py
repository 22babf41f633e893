"""Appraisal of evidence (RFC 9334, 8.5): reference values, what was seen before, and a verdict.

Whatever is wrong with evidence is a reason in the verdict, never an exception: evidence comes
from a host that may be anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from shype.attest import event_log, evidence, host_events, quote
from shype.attest.evidence import Evidence
from shype.attest.host_events import HostEvent, Kind
from shype.attest.public import AttestationKey
from shype.attest.quote import Attested
from shype.attest.reference import ANY, Boot, References, Rule, Window
from shype.base.errors import BadInput
from shype.host.attest_result import AttestedPolicy, Reason, Verdict, attester_id

#: From good to bad: the worst of all findings is the verdict.
_ORDER = (Verdict.TRUSTED, Verdict.MAINTENANCE, Verdict.UNKNOWN, Verdict.FAILED)
_RANK = {verdict: rank for rank, verdict in enumerate(_ORDER)}


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    return max(verdicts, key=_RANK.__getitem__, default=Verdict.TRUSTED)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a host's last genuine quote said: the boot, the time, and the log until there.

    ``register`` is what the first ``events`` of the log amount to; the first ``judged`` of them
    were in the log when the host was last found trusted (or in maintenance) in this boot.
    """

    reset_count: int
    restart_count: int
    milliseconds: int
    events: int
    register: bytes
    judged: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that appraisal came upon."""

    severity: Verdict
    reason: Reason


@dataclass(frozen=True, slots=True)
class Appraisal:
    """A verdict, why, the policy in force, and what to remember (None: the quote is not genuine).

    Until the quote is genuine, all that the evidence says is hearsay: the boot's counts are 0 then.
    """

    findings: tuple[Finding, ...]
    policy: AttestedPolicy | None = None
    boot: Boot | None = None
    events: tuple[HostEvent, ...] = ()
    seen: Seen | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of all findings; trusted if there are none."""
        return _worst(f.severity for f in self.findings)

    @property
    def accepted(self) -> bool:
        """Whether nothing is wrong: trusted, or in maintenance."""
        return self.verdict in (Verdict.TRUSTED, Verdict.MAINTENANCE)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why, worst first."""
        ranked = sorted(self.findings, key=lambda f: -_RANK[f.severity])
        return tuple(f.reason for f in ranked)


def appraise(
    data: bytes, *, ak: AttestationKey, nonce: bytes, references: References, now: int,
    seen: Seen | None = None, versions: dict[str, str] | None = None,
) -> Appraisal:
    """The verdict on the evidence ``data`` of the host with the key ``ak``.

    ``nonce``: the challenge it must answer. ``now``: seconds since 1970 on the verifier's clock.
    ``seen``: what the host's last genuine quote said; ``versions``: the newest version that it
    had of each policy. Never raises for what the evidence holds.
    """
    try:
        found = evidence.loads(data)
        said = quote.parse(found.quote.attest)
        wrong = _not_genuine(found, said, ak, nonce)
        entries = event_log.loads(found.log)
        register = _register(entries)
    except BadInput as error:
        return _failed(Reason(error.id, error.message))
    if wrong is not None:
        return _failed(wrong)
    missing = [pcr for pcr in references.pcrs if pcr not in found.pcrs]
    if missing:
        return _failed(Reason("quote.missing", "the quote leaves out the registers "
                              + ", ".join(str(pcr) for pcr in missing)))
    findings = [*_went_back(said, seen)]
    _state("firmware", found, references.firmware, now, findings)
    boot = _state("boot", found, references.boots, now, findings)
    if not event_log.spelled(found.log, entries):
        findings.append(_fail("log.form", "the log has more in it than events of the host"))
    if register != found.pcrs[host_events.PCR]:
        findings.append(_fail("log.register", "the log is not what was measured: an event is "
                              "missing, changed, added or in another place"))
        return Appraisal(tuple(findings), boot=boot, seen=_remember(said, seen, None))
    events = _host_events(entries, findings)
    findings += _shrunk(said, entries, seen)
    known = seen.judged if seen is not None and _same_boot(said, seen) else 0
    policy = _judge(events, known, boot, references, now, versions or {}, findings)
    appraisal = Appraisal(
        tuple(findings), policy, boot, events, _remember(said, seen, (len(entries), register)))
    if appraisal.seen is not None and appraisal.accepted:
        appraisal = replace(appraisal, seen=replace(appraisal.seen, judged=len(entries)))
    return appraisal


def _register(entries: Sequence[event_log.Event]) -> bytes:
    """What the log amounts to in the register of shype's events."""
    start = event_log.INITIAL[host_events.PCR]
    return event_log.replay(entries).get(host_events.PCR, start)


def _failed(reason: Reason) -> Appraisal:
    return Appraisal((Finding(Verdict.FAILED, reason),))


def _fail(id: str, message: str) -> Finding:
    return Finding(Verdict.FAILED, Reason(id, message))


def _not_genuine(
    found: Evidence, said: Attested, ak: AttestationKey, nonce: bytes
) -> Reason | None:
    if found.attester != attester_id(ak.public):
        return Reason("evidence.other-host", "the evidence is of another host, or of a key that "
                      "this host no longer has")
    if found.nonce != nonce:
        return Reason("quote.nonce", "the evidence answers another challenge: it is an old one, "
                      "or was made for somebody else")
    return quote.problem(found.quote, said, ak=ak, nonce=nonce, pcrs=found.pcrs)


def _went_back(said: Attested, seen: Seen | None) -> list[Finding]:
    """A TPM's counts only grow, so what is lower comes from before, or from a cleared TPM."""
    if seen is None:
        return []
    was = (seen.reset_count, seen.restart_count, seen.milliseconds)
    clock = said.clock
    if (clock.reset_count, clock.restart_count, clock.milliseconds) < was:
        return [_fail("quote.clock", "the TPM counts fewer boots or less time than it did before: "
                      "the quote is older than the last one, or the TPM was cleared")]
    return []


def _same_boot(said: Attested, seen: Seen) -> bool:
    return (seen.reset_count, seen.restart_count) == (
        said.clock.reset_count, said.clock.restart_count)


def _shrunk(
    said: Attested, entries: Sequence[event_log.Event], seen: Seen | None
) -> list[Finding]:
    """Within one boot a log only grows. Only a reset of the register could make it forget."""
    if seen is None or not _same_boot(said, seen):
        return []
    then = _register(entries[:seen.events])
    if len(entries) < seen.events or then != seen.register:
        return [_fail("log.shrunk", "since the last quote of this boot the log has lost events: "
                      "the register was reset without a boot")]
    return []


def _remember(
    said: Attested, seen: Seen | None, log: tuple[int, bytes] | None
) -> Seen:
    """The furthest that the host has come; a quote from before takes nothing back."""
    clock = said.clock
    at = (clock.reset_count, clock.restart_count, clock.milliseconds)
    if seen is not None and at < (seen.reset_count, seen.restart_count, seen.milliseconds):
        return seen
    events, register = log or (0, _register(()))
    if seen is None or not _same_boot(said, seen):
        return Seen(*at, events, register)
    if log is None or events < seen.events:
        events, register = seen.events, seen.register
    return Seen(*at, events, register, seen.judged)


def _state(
    kind: str, found: Evidence, known: Sequence[Boot], now: int, findings: list[Finding]
) -> Boot | None:
    """The firmware or boot of ``known`` that left these registers."""
    same = [boot for boot in known
            if all(found.pcrs[pcr] == value for pcr, value in boot.pcrs.items())]
    if not same:
        nearest = min(known, key=lambda boot: len(_differing(found, boot)))
        differing = ", ".join(str(pcr) for pcr in _differing(found, nearest))
        findings.append(_fail(
            f"{kind}.unknown", f"no reference value knows this {kind}: from {nearest.what!r} the "
            f"registers {differing} differ"))
        return None
    boot = next((b for b in same if _outside(b.window, now) is None), same[0])
    late = _outside(boot.window, now)
    if late is not None:
        findings.append(_fail(f"{kind}.{late}", f"the {kind} is {boot.what!r}, which is "
                              + _LATE[late]))
    elif boot.severity is not Verdict.TRUSTED:
        findings.append(Finding(boot.severity, Reason(
            f"{kind}.severity", f"the {kind} is {boot.what!r}, which counts as {boot.severity}")))
    return boot


_LATE = {"not-yet": "not to be used yet", "expired": "not to be used any more"}


def _outside(window: Window, now: int) -> str | None:
    if not window.opens(now):
        return "not-yet"
    return "expired" if window.closed(now) else None


def _differing(found: Evidence, boot: Boot) -> list[int]:
    return [pcr for pcr, value in boot.pcrs.items() if found.pcrs[pcr] != value]


def _host_events(
    entries: Sequence[event_log.Event], findings: list[Finding]
) -> tuple[HostEvent, ...]:
    events = []
    for number, entry in enumerate(entries):
        event = host_events.from_event(entry)
        if event is None:
            findings.append(_fail("log.unknown-event", f"event {number} of the log is none that "
                                  "shype measures"))
        else:
            events.append(event)
    return tuple(events)


def _judge(
    events: Sequence[HostEvent], known: int, boot: Boot | None, references: References, now: int,
    versions: dict[str, str], findings: list[Finding],
) -> AttestedPolicy | None:
    """What the events amount to; returns the policy in force at the end.

    The first ``known`` were in the log already when ``versions`` were the newest.
    """
    newest = {} if known else dict(versions)
    policy = boot.policy if boot is not None else None
    if policy is not None:
        meant = any(rule.rollback and rule.values["name"] == policy.name
                    and rule.values["version"] in (ANY, policy.version)
                    and _outside(rule.window, now) is None for rule in references.rules
                    if rule.kind is Kind.POLICY)
        _no_downgrade(policy, newest, meant, findings)
    rules_of = _rules(references.rules, now)
    last = {event.kind: number for number, event in enumerate(events)}
    for number, event in enumerate(events):
        if number == known:
            newest.update({name: version for name, version in versions.items()
                           if name not in newest or _version(newest[name]) < _version(version)})
        current = last[event.kind] == number or event.kind in (
            Kind.LAUNCH, Kind.TPM)
        about = [(rule, late) for rule, late in rules_of[event.kind] if rule.about(event)]
        open_ = [rule for rule, late in about if late is None]
        # What is over has had its time; only what is in force must be in time now.
        if not open_ and not current:
            open_ = [rule for rule, late in about if late != "not-yet"]
        if not open_:
            findings.append(_unaccepted(event, about[0][1] if about else None))
        else:
            severity = _worst(rule.severity for rule in open_)
            if severity is not Verdict.TRUSTED:
                findings.append(Finding(severity, Reason(
                    "event.severity", f"{event} counts as {severity}")))
        if event.kind is Kind.POLICY:
            values = event.values
            policy = AttestedPolicy(values["name"], values["version"], values["bundle"])
            _no_downgrade(policy, newest, any(rule.rollback for rule in open_), findings)
    findings += _incomplete(events, policy)
    return policy


def _rules(rules: Sequence[Rule], now: int) -> dict[Kind, list[tuple[Rule, str | None]]]:
    """The rules about each kind, and for each why it does not hold now."""
    found: dict[Kind, list[tuple[Rule, str | None]]] = {kind: [] for kind in Kind}
    for rule in rules:
        found[rule.kind].append((rule, _outside(rule.window, now)))
    return found


def _unaccepted(event: HostEvent, late: str | None) -> Finding:
    """No rule accepts the event; the first about it is ``late``, if there is one."""
    if late is None:
        return _fail("event.unknown", f"{event}: no reference value accepts it")
    return _fail(f"event.{late}", f"{event}: {_LATE[late]}")


def _no_downgrade(
    policy: AttestedPolicy, newest: dict[str, str], allowed: bool, findings: list[Finding]
) -> None:
    had = newest.get(policy.name)
    if had is not None and _version(policy.version) < _version(had) and not allowed:
        findings.append(_fail("policy.downgrade", f"the policy {policy.name} {policy.version} was "
                              f"loaded after {had}"))
    elif had is None or _version(policy.version) >= _version(had):
        newest[policy.name] = policy.version


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _incomplete(events: Sequence[HostEvent], policy: AttestedPolicy | None) -> list[Finding]:
    findings = []
    if not events or events[0].kind is not Kind.AGENT:
        severity = Verdict.FAILED if events else Verdict.UNKNOWN
        findings.append(Finding(severity, Reason(
            "log.no-agent", "the agent has not measured its start first")))
    if policy is None:
        findings.append(Finding(Verdict.UNKNOWN, Reason(
            "log.no-policy", "nothing says which policy is in force")))
    modes = [event.values["mode"] for event in events if event.kind is Kind.ENFORCEMENT]
    if not modes:
        findings.append(Finding(Verdict.UNKNOWN, Reason(
            "log.no-enforcement", "nothing says whether the hypervisor enforces the policy")))
    return findings
