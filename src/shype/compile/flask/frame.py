"""Everything of a binary policy around its rules: classes, types, levels, contexts, booleans."""

from __future__ import annotations

from collections.abc import Iterator

from shype.compile.flask.encoding import booleans, label_entries, type_of
from shype.compile.flask.mismatch import Mismatch, short
from shype.compile.flask.mls import MlsLevel, MlsRange
from shype.compile.flask.reader import Binary, Context, context
from shype.compile.flask.tables import Tables
from shype.policy.manifest import BOOT_MANAGER
from shype.policy.model import Policy


def compare(policy: Policy, tables: Tables, binary: Binary, digest: str) -> Iterator[Mismatch]:
    """All differences; with a wrong frame, rules mean nothing."""

    def differs(what: str, wanted: object, got: object) -> Iterator[Mismatch]:
        if wanted != got:
            yield Mismatch("policy", what, "frame", short(wanted), short(got))

    yield from differs("platform", ("xen", True, "deny"),
                       (binary.platform, binary.mls, binary.unknown))
    classes = {name: frozenset(perms) for name, perms in tables.classes.items()}
    yield from differs("classes", classes, dict(binary.classes))
    sid_types = [f"{sid}_t" for sid in tables.initial_sids]
    labels = [entry.type for entry in label_entries(policy).values()]
    labels += [type_of(name) for name in policy.retired]
    channels = {*binary.transitions.values()}
    # That hardware has no label's type, `Hardware.order` says, with the place.
    helpers = channels | {item.context.type for item in binary.objects}
    yield from differs("label types", len(policy.guests) + len(policy.retired),
                       len({*labels} - {*sid_types} - channels))
    yield from differs("types", {*sid_types, *labels} | helpers, {*binary.types} | helpers)
    renamed = {
        type_of(label.was): type_of(label.name) for label in policy.guests if label.was is not None
    }
    yield from differs("renamed types", renamed, dict(binary.aliases))
    every = frozenset(binary.types)
    yield from differs("roles", {"r": every, "object_r": frozenset()}, dict(binary.roles))
    yield from _levels(policy, sid_types, binary)
    yield from differs("other statements", (), binary.other)
    if policy.levels is None and policy.integrity is None:
        yield from differs("constraints", (), binary.constraints)
    yield from _contexts(policy)
    names = booleans(policy, digest)
    wanted = (names.enable, *names.bits, *names.vectors, *names.running.values(), *names.flags,
              names.digest)
    values = dict.fromkeys(wanted, False)
    if policy.host.manager is not None:
        values[BOOT_MANAGER] = True
    yield from differs("booleans", values, dict(binary.booleans))


def _contexts(policy: Policy) -> Iterator[Mismatch]:
    """Every label's context carries its level: that of the policy, in the hypervisor's terms.

    Category by category: those of confidentiality in file order, then, for
    what is *not* trusted, one per step of the integrity order and one per
    category of integrity.
    """
    entries = label_entries(policy)
    for label in policy.guests:
        ends = []
        for end in ("low", "high"):
            rank, bits = 0, list[bool]()
            if policy.levels is not None and label.level is not None:
                level = label.level.low if end == "low" else label.level.high
                rank = level.rank
                bits += [name in level.categories for name in policy.levels.categories]
            if policy.integrity is not None and label.integrity is not None:
                # What is trusted least is, inverted, the highest.
                integrity = label.integrity.high if end == "low" else label.integrity.low
                bits += [integrity.rank < j for j in range(1, len(policy.integrity.order))]
                bits += [name not in integrity.categories for name in policy.integrity.categories]
            ends.append(MlsLevel(rank, sum(bit << i for i, bit in enumerate(bits))))
        wanted = Context("u", "r", type_of(label.name), MlsRange(ends[0], ends[1]))
        got = context(entries[label.name].context)
        if wanted != got:
            yield Mismatch(label.name, "its own context", "frame", str(wanted.range),
                           str(got.range))


def _levels(policy: Policy, sid_types: list[str], binary: Binary) -> Iterator[Mismatch]:
    """Sensitivities and categories in order; dom0 and the user have them all, the rest none."""

    def differs(what: str, wanted: object, got: object) -> Iterator[Mismatch]:
        if wanted != got:
            yield Mismatch("policy", what, "frame", short(wanted), short(got))

    ranks = len(policy.levels.order) if policy.levels else 1
    width = len(policy.levels.categories) if policy.levels else 0
    if policy.integrity:
        width += len(policy.integrity.order) + len(policy.integrity.categories) - 1
    yield from differs("sensitivities", tuple(f"s{i}" for i in range(ranks)), binary.sensitivities)
    yield from differs("categories", tuple(f"c{i}" for i in range(width)), binary.categories)
    every = "" if width == 0 else ":c0" if width == 1 else f":c0.c{width - 1}"
    yield from differs("levels", {f"s{i}": f"s{i}{every}" for i in range(ranks)},
                       {name: text.replace(",", ".") if width == 2 else text
                        for name, text in binary.levels.items()})
    low, high = MlsLevel(0), MlsLevel(ranks - 1, (1 << width) - 1)
    whole = "s0" if low == high else f"s0 - s{ranks - 1}{every}"
    yield from differs("users", (f"user u roles r level s0 range {whole};",), binary.users)
    contexts = tuple(
        Context("u", "r", type_, MlsRange(low, high if type_ == "dom0_t" else low))
        for type_ in sid_types
    )
    yield from differs("initial SIDs", contexts, binary.sids)
