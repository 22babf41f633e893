"""From text to the model: examples, round trips, random garbage, and speed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shype.base import canonical
from shype.policy.bundle import policy_from_json, policy_to_json
from shype.policy.findings import Id
from shype.policy.lattice import LevelRange
from shype.policy.loader import FINDINGS_LIMIT, check, check_text, load
from shype.policy.mechanism import OPENED, Mechanism
from shype.policy.model import Policy
from shype.policy.names import CoalitionName, LabelName, ResourceLabelName, VmId, WallName
from shype.policy.source import Severity, Span
from tests.policy.bad_policies import CASES
from tests.policy.draws import SOURCE
from tests.policy.good_policies import GOOD, RICH
from tests.policy.policy_text import policy_yaml
from tests.policy.strategies import PATIENT, TODAY, full_policies, policies

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def _policy(text: str) -> Policy:
    policy, findings = check_text(text, "p.yaml")
    assert policy is not None, findings
    return policy


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    loaded = load(path)
    assert {f.severity for f in loaded.warnings} <= {Severity.WARNING}
    bare = replace(loaded.policy, assertions=())  # no host needs them, so a bundle has none
    assert policy_from_json(policy_to_json(loaded.policy)) == bare


def test_the_examples_are_there() -> None:
    assert {path.stem for path in EXAMPLES} >= {"banks", "tenants", "driver-domain", "two-hosts"}


def _example(name: str) -> Policy:
    return load(ROOT / "examples" / f"{name}.yaml").policy


def _shared(policy: Policy, a: str, b: str) -> set[str]:
    labels = {str(name): label for name, label in policy.labels.items()}
    return {str(name) for name in labels[a].coalitions & labels[b].coalitions}


def test_banks_says_what_its_comments_say() -> None:
    policy = _example("banks")
    assert _shared(policy, "bank-a-desk", "market-data") == {"market"}
    assert _shared(policy, "bank-a-db", "bank-a-desk") == {"bank-a"}
    assert not _shared(policy, "bank-a-db", "bank-b-db")
    assert not _shared(policy, "bank-a-db", "market-data")
    assert policy.unlabeled is None
    assert policy.members == {"bank-a", "bank-b"}


def test_tenants_says_what_its_comments_say() -> None:
    policy = _example("tenants")
    for a, b in (("red", "blue"), ("red", "green"), ("blue", "green")):
        for kind in ("web", "data"):
            for other in ("web", "data"):
                assert not _shared(policy, f"{a}-{kind}", f"{b}-{other}")
    for tenant in ("red", "blue", "green"):
        assert _shared(policy, f"{tenant}-data", "backup") == {f"backup-{tenant}"}
        assert not _shared(policy, f"{tenant}-web", "backup")
        assert _shared(policy, f"{tenant}-web", f"{tenant}-data")
    assert policy.unlabeled is not None
    assert not policy.unlabeled.coalitions


def test_driver_domain_says_what_its_comments_say() -> None:
    policy = _example("driver-domain")
    assert policy.host.drivers == {"net-card"}
    served = ("office", "lab", "browser")
    for a in served:
        assert _shared(policy, a, "net-card")
        assert not any(_shared(policy, a, b) for b in served if b != a)
    assert not _shared(policy, "vault", "net-card")


def test_two_hosts_warns_of_the_label_it_never_runs() -> None:
    loaded = load(ROOT / "examples/two-hosts.yaml")
    assert [f.id for f in loaded.warnings] == [Id.LABEL_NOT_AUTHORIZED]
    assert "`test-bench`" in loaded.warnings[0].message


def test_spans_are_those_of_the_names() -> None:
    policy = _policy(GOOD)
    assert {str(n): c.span for n, c in policy.coalitions.items()} == {
        "web": Span("p.yaml", 3, 14), "data": Span("p.yaml", 3, 19),
    }
    assert [wall.span for wall in policy.walls.values()] == [Span("p.yaml", 5, 3)]
    assert [label.span.line for label in policy.labels.values()] == [7, 8, 9, 10]
    assert policy.host.span == Span("p.yaml", 11, 1)
    assert [a.span for a in policy.assignments.values()] == [Span("p.yaml", 12, 7)]


def test_all_expands_to_every_coalition_for_dom0_and_drivers() -> None:
    text = GOOD.replace("unlabeled: {}", "nic: {coalitions: all}").replace("[]}", "[nic]}")
    policy = _policy(text)
    shares = {str(name): label.coalitions for name, label in policy.labels.items()}
    assert shares["boss"] == shares["nic"] == {"web", "data"}


def test_what_is_optional_may_be_missing_or_empty() -> None:
    short = 'shype: 1\npolicy: {name: p, version: "0.1"}\ncoalitions: [c]\n'
    labels = "labels: {boss: {coalitions: all}, vm: {coalitions: [c]}}\n"
    least = _policy(short + labels + "host: {dom0: boss}\n")
    empty = _policy(short + labels + "host: {dom0: boss, drivers: []}\nwalls: {}\nvms: {}\n")
    assert least == empty


def test_labels_may_share_members_and_walls_may_overlap() -> None:
    text = GOOD.replace("[red, blue]", "[red, blue]\n  teams: [red, green]")
    text = text.replace("wall: [blue]", "wall: [blue, green]")
    policy = _policy(text)
    assert policy.members == {"red", "blue", "green"}


def test_quoted_names_that_yaml_would_misread_are_names() -> None:
    policy = _policy(GOOD.replace("unlabeled: {}", '"no": {}\n  "on": {}\n  "null": {}'))
    assert {"no", "on", "null"} <= set(policy.labels)


def test_levels_guards_and_mechanisms_become_the_model() -> None:
    policy, findings = check_text(RICH, "p.yaml", TODAY)
    assert policy is not None, findings
    assert (policy.replaces, policy.was) == ("1.3", "hospital")
    lab = policy.coalitions[CoalitionName("lab")]
    assert lab.mechanisms == {Mechanism.EVENT, Mechanism.GRANT}
    assert (lab.write_up, lab.was) == (True, "tests")
    assert policy.coalitions[CoalitionName("wards")].mechanisms == OPENED
    assert policy.walls[WallName("firms")].was == "rivals"
    assert policy.levels is not None
    assert policy.levels.order == ("public", "internal", "secret")
    assert policy.levels.span == Span("p.yaml", 9, 1)
    assert policy.integrity is not None
    assert policy.integrity.categories == ()
    nic = policy.labels[LabelName("nic")]
    assert nic.level == LevelRange(policy.levels.bottom, policy.levels.top)
    ward = policy.labels[LabelName("ward")]
    assert ward.level is not None
    assert ward.level.single
    assert ward.level.low == policy.levels.level("secret", ["names"])
    assert ward.was == "station"
    assert policy.labels[LabelName("boss")].level is None
    assert policy.labels[LabelName("desk")].mechanisms == {Mechanism.EVENT}
    guard = policy.guards[LabelName("release")]
    assert (guard.source, guard.sink) == ("wards", "world")
    assert (guard.reason, guard.expires) == ("names are removed", date(2099, 1, 31))
    assert policy.labels[guard.name].coalitions == frozenset()
    assert policy.coalitions_of(guard.name) == {"wards", "world"}
    assert policy.assignments[VmId("vm-1")].label == guard.name


def test_resources_become_the_model() -> None:
    policy, findings = check_text(RICH, "p.yaml", TODAY)
    assert policy is not None, findings
    assert policy.levels is not None
    mail = policy.resource_labels[ResourceLabelName("mail")]
    assert mail.level == policy.levels.level("secret", ["names"])
    assert mail.coalitions == {"wards"}
    assert (str(mail.was), mail.span.line) == ("post", 23)
    assert policy.resource_labels[ResourceLabelName("tpm")].inaccessible
    assert policy.unlabeled_resources is not None
    assert [(r.kind, r.pattern, r.span.line) for r in policy.resources] == [
        ("disk", "/dev/vg0/mail-*", 27), ("disk", "/dev/vg0/mail-web", 28),
        ("network", "br-web", 29), ("pci", "0000:03:00.*", 30), ("irq", "16", 31),
        ("ioport", "0x2f8-0x2ff", 32), ("memory", "0xfed40000-0xfed44fff", 33),
    ]
    assert policy.resources[0].label is mail
    inline = policy.resources[1].label
    assert inline.name is None
    assert inline.coalitions == {"world"}
    assert inline.level == policy.levels.bottom
    assert list(policy.retired) == ["theatre"]
    assert policy.retired[LabelName("theatre")].members == frozenset()


def test_a_tombstone_can_say_what_its_vms_hold() -> None:
    text = RICH.replace("retired: [theatre]", "retired: {theatre: {wall: [red]}, old: {}}")
    policy, findings = check_text(text, "p.yaml", date(2030, 1, 1))
    assert policy is not None, findings
    held = {name: tomb.members for name, tomb in policy.retired.items()}
    assert held == {"theatre": {"red"}, "old": frozenset()}
    _, findings = check_text(text.replace("{wall: [red]}", "{wall: [green]}"), "p.yaml",
                             date(2030, 1, 1))
    assert [f.id for f in findings if f.severity is Severity.ERROR] == ["wall.undeclared-member"]


def test_a_guard_expires_on_its_day_and_not_before() -> None:
    for day, ids in (
        (date(2099, 1, 31), ["guard.expired"]), (date(2099, 1, 30), ["guard.expires-soon"]),
        (date(2098, 12, 31), []),
    ):
        policy, findings = check_text(RICH, "p.yaml", day)
        assert [f.id for f in findings] == ids
        assert (policy is None) == (ids == ["guard.expired"])


def test_the_present_day_counts_if_none_is_given(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(RICH.replace("2099-01-31", date.today().isoformat()))
    assert [f.id for f in check(path)[1]] == [Id.GUARD_EXPIRED]
    assert load(path, date(2020, 1, 1)).warnings == ()


def test_another_version_says_nothing_else() -> None:
    policy, findings = check_text("shype: 7\nnew-things: {a: b}\n", "p.yaml")
    assert policy is None
    assert [f.id for f in findings] == [Id.VERSION_UNSUPPORTED]


@settings(PATIENT, max_examples=40)
@given(policies() | full_policies())
def test_round_trip_through_yaml_and_bundle(policy: Policy) -> None:
    """Text -> model -> JSON -> model: equal, order and spans included."""
    read, findings = check_text(policy_yaml(policy), SOURCE, TODAY)
    assert read == policy, findings
    assert list(read.labels) == list(policy.labels)
    assert list(read.coalitions) == list(policy.coalitions)
    again = policy_from_json(json.loads(canonical.dumps(policy_to_json(read))))
    assert again == policy


_LINES = st.lists(st.sampled_from([*GOOD.splitlines(), *RICH.splitlines(), *(
    line for bad in CASES for line in bad.text.splitlines() if len(line) < 80
)]), max_size=14).map("\n".join)


@st.composite
def _spoiled(draw: st.DrawFn) -> str:
    """A valid policy with a few characters changed."""
    text = draw(st.sampled_from([GOOD, RICH, *(bad.text for bad in CASES if len(bad.text) < 1000)]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 6))
        new = draw(st.text(":,[]{}-&*!#'\"\n\t <>ax1é\u2028", max_size=3))
        text = text[:at] + new + text[at + cut :]
    return text


@settings(PATIENT, max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.one_of(st.binary(max_size=200), _LINES.map(str.encode), _spoiled().map(str.encode)))
@example(data=b"? {a: b}\n: c")
@example(data=b"labels: {a: *a}")
@example(data=b"[&a x, *a]")
def test_no_file_whatever_gives_a_traceback(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random.yaml"
    path.write_bytes(data)
    policy, findings = check(path)
    invalid = any(f.severity is Severity.ERROR for f in findings)
    assert (policy is None) == invalid
    known = {str(id) for id in Id}
    for finding in findings:
        assert finding.id in known
        assert finding.message
        assert finding.fix
        assert finding.span.line >= 1
        assert finding.span.column >= 1
        json.dumps(finding.to_json()).encode()
    assert [f.span for f in findings] == sorted(f.span for f in findings)
    if policy is not None:
        assert policy_from_json(policy_to_json(policy)) == replace(policy, assertions=())


def _large(labels: int) -> str:
    coalitions = [f"c{i}" for i in range(200)]  # the two of a label differ: 6 i + 1 is odd
    members = [f"m{i}" for i in range(100)]
    lines = [
        "shype: 1", 'policy: {name: large, version: "1.0"}',
        f"coalitions: [{', '.join(coalitions)}]", "walls:",
        *(f"  w{i}: [{', '.join(members[i * 10 : i * 10 + 10])}]" for i in range(10)),
        "labels:", "  boss: {coalitions: all}",
        *(
            f"  l{i}: {{coalitions: [c{i % 200}, c{(i * 7 + 1) % 200}], wall: [m{i % 100}]}}"
            for i in range(labels)
        ),
        "host: {dom0: boss}", "vms:", *(f"  vm{i}: l{i}" for i in range(labels)),
    ]
    return "\n".join(lines) + "\n"


def test_a_policy_of_5000_labels_loads_in_seconds() -> None:
    text = _large(5000)
    begun = time.process_time()
    policy, findings = check_text(text, "large.yaml")
    taken = time.process_time() - begun
    assert findings == ()
    assert policy is not None
    assert len(policy.labels) == 5001
    assert taken < 15, f"{taken:.1f} s"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # each is about 100 kB of what a rule has to compare with something else
        ("[names, pay]", f"[names, pay, {', '.join(f'c{i}' for i in range(20_000))}]"),
        ("level: public, integrity: low, mech", f"level: \"public {{{'a, ' * 1300}a}}\", mech"),
        ("host: {", "".join(f"  g{i}: {{from: x{i}, to: y{i}, reason: r, expires: '2000-01-01'}}\n"
                            for i in range(1500)) + "host: {"),
        ("  release:", "".join(f"  l{i}: {{level: \"secret {{all}}\", was: w{i % 7}}}\n"
                               for i in range(2000)).join(["  x: {}\n", "  release:"])),
        ("  - {network", "".join(f"  - {{disk: '/*{i}?*', level: [], label: l{i}}}\n"
                                 for i in range(2000)) + "  - {network"),
        ("  - {network", "".join(f"  - {{memory: '{i * 4096:#x}-{(i + 9) * 4096 - 1:#x}', "
                                 f"label: l{i}}}\n" for i in range(2000)) + "  - {network"),
        ("[theatre]", f"[{', '.join(f'r{i}' for i in range(12_000))}, desk]"),
    ],
    ids=["categories", "level", "guards", "labels", "patterns", "ranges", "retired"],
)
def test_hostile_policies_end_soon(old: str, new: str) -> None:
    assert old in RICH
    text = RICH.replace(old, new, 1)
    begun = time.process_time()
    policy, findings = check_text(text, "hostile.yaml", TODAY)
    assert policy is None
    assert 0 < len(findings) <= FINDINGS_LIMIT + 1
    assert time.process_time() - begun < 10


def test_thousands_of_errors_take_seconds() -> None:
    text = _large(3000).replace("coalitions: [c", "coalitions: [d").replace(": l", ": L")
    begun = time.process_time()
    policy, findings = check_text(text, "large.yaml")
    assert policy is None
    assert len(findings) == 1001
    assert time.process_time() - begun < 20
