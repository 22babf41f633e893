"""An imported policy decides as the ACM did: random policies, against a model of the module."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.decision.operation import Operation
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.acm.importer import Imported, import_documents
from shype.policy.names import LabelName
from tests.policy.acm.documents import UNLABELED, Table, tables
from tests.policy.acm.module import Acm, Machine

_SETTINGS = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
_SHARING = (Operation.EVENT_SEND, Operation.MAP_READ, Operation.MAP_WRITE, Operation.COPY_TO)


def _imported(table: Table, *, two: bool = False) -> Imported:
    if two:
        policy, template = table.two_files()
        return import_documents([(policy, "p.xml"), (template, "t.xml")])
    return import_documents([(table.xml(), "p.xml")])


def _check_sharing(acm: Acm, done: Imported) -> None:
    server, new = SecurityServer(done.policy), done.sketch.mapping["labels"]
    guests = [name for name in acm.ste if new[name] != done.policy.host.dom0]
    for a in guests:
        for b in guests:
            for operation in _SHARING:
                said = server.permits(LabelName(new[a]), LabelName(new[b]), operation)
                assert said == acm.shares(a, b), (a, b, operation)


def _walled_off(acm: Acm, label: str) -> bool:
    """Whether dom0, which always runs, keeps the label from ever starting."""
    return not Machine(acm).start(label)


def _check_authorization(acm: Acm, done: Imported) -> None:
    server, new = SecurityServer(done.policy), done.sketch.mapping["labels"]
    for name in acm.ste:
        if new[name] == done.policy.host.dom0:
            continue
        expected = acm.authorized(name) and not _walled_off(acm, name)
        assert server.authorize(LabelName(new[name])).permitted == expected, name


@given(tables(), st.booleans())
@_SETTINGS
def test_sharing_and_authorization(table: Table, two: bool) -> None:
    done = _imported(table, two=two)
    _check_sharing(table.acm(), done)
    _check_authorization(table.acm(), done)


@given(tables(versioned=False))
@_SETTINGS
def test_sharing_and_authorization_of_2006(table: Table) -> None:
    done = _imported(table)
    assert done.generation == "2006"
    _check_sharing(table.acm(), done)
    _check_authorization(table.acm(), done)


@given(tables(), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=25))
@_SETTINGS
def test_histories_of_starts_and_stops(table: Table, steps: list[tuple[bool, int]]) -> None:
    """Equal; with a label in conflict with itself in the policy: never more than the ACM."""
    acm, done = table.acm(), _imported(table)
    exact = not any(map(acm.self_conflicts, acm.ste))
    server, new = SecurityServer(done.policy), done.sketch.mapping["labels"]
    guests = [name for name in acm.ste if new[name] != done.policy.host.dom0]
    machine, running = Machine(acm), list[Running]()
    names: list[str] = []
    for number, (stop, pick) in enumerate(steps):
        if stop and names:
            machine.stop(names.pop(pick % len(names)))
            running.pop(pick % (len(names) + 1))
            continue
        if not guests:
            return
        name = guests[pick % len(guests)]
        label = LabelName(new[name])
        ours = server.launch(label, running).permitted
        theirs = acm.authorized(name) and machine.start(name)
        if exact:
            assert ours == theirs, (name, names)
        else:
            assert theirs or not ours, (name, names)
        if ours:
            names.append(name)
            running.append(Running(number + 1, f"vm{number}", label))
        elif theirs:
            machine.stop(name)


@given(tables())
@_SETTINGS
def test_resources(table: Table) -> None:
    acm, done = table.acm(), _imported(table)
    new, things = done.sketch.mapping["labels"], done.sketch.mapping["resource-labels"]
    for name in acm.ste:
        mine = done.policy.labels[LabelName(new[name])].coalitions
        for thing in acm.resources:
            theirs = next(
                r for n, r in done.policy.resource_labels.items() if n == things[thing]
            )
            assert bool(mine & theirs.coalitions) == acm.uses(name, thing)
            assert theirs.inaccessible == (not theirs.coalitions)


@given(tables())
@_SETTINGS
def test_names_are_told_apart(table: Table) -> None:
    done = _imported(table)
    for kind, mapping in done.sketch.mapping.items():
        assert len(set(mapping.values())) == len(mapping), kind
    labels = done.sketch.mapping["labels"]
    assert labels.keys() == table.labels.keys()
    assert (("unlabeled" in labels.values()) == (UNLABELED in labels)) or (
        table.dom0 == UNLABELED and "unlabeled" in done.policy.labels
    )
    assert _imported(table).text == done.text
