"""Names and launch windows, checked on the CIL text by an evaluator of its own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shype.compile.flask import cil, conditions, encoding
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.model import Policy, ResourceKind
from shype.policy.names import CoalitionName, LabelName, MemberName
from tests.compile.policies import BANKS, EDGES, policy
from tests.policy.draws import names
from tests.policy.strategies import policies


def holds(condition: str, setting: dict[str, bool]) -> bool:
    """Evaluate a CIL condition."""
    words = condition.replace("(", " ( ").replace(")", " ) ").split()

    def term() -> bool:
        word = words.pop(0)
        if word != "(":
            return setting[word]
        operator = words.pop(0)
        values = []
        while words[0] != ")":
            values.append(term())
        words.pop(0)
        if operator == "not":
            assert len(values) == 1
            return not values[0]
        assert operator == "and"
        assert len(values) == 2
        return all(values)

    value = term()
    assert not words
    return value


def depth(condition: str) -> int:
    """Places on the stack that evaluating the condition in postfix order needs."""
    words = condition.replace("(", " ( ").replace(")", " ) ").split()

    def term() -> int:
        if words.pop(0) != "(":
            return 1
        words.pop(0)
        needs = []
        while words[0] != ")":
            needs.append(term())
        words.pop(0)
        return max(need + place for place, need in enumerate(needs))

    return term()


def setting_for(policy: Policy, index: int, enabled: bool, running: set[MemberName]) -> dict[
    str, bool
]:
    bits = encoding.window_bits(len(policy.guests))
    return {
        encoding.ENABLE: enabled,
        **{name: bool(index >> i & 1) for i, name in enumerate(bits)},
        **{encoding.running_boolean(m): m in running for m in policy.members},
    }


@settings(deadline=None)
@given(count=st.integers(1, 300), data=st.data())
def test_exactly_one_window_is_open(count: int, data: st.DataObject) -> None:
    many = policy({"manager": ([], []), **{f"l{i}": ([], []) for i in range(count)}})
    index = data.draw(st.integers(0, 2 ** len(encoding.window_bits(count)) - 1))
    setting = setting_for(many, index, True, set())
    opened = [
        i for i, label in enumerate(many.guests)
        if holds(encoding.windows(many, label, i)[0], setting)
    ]
    assert opened == ([index] if index < count else [])
    setting[encoding.ENABLE] = False
    assert not any(
        holds(encoding.windows(many, label, i)[0], setting) for i, label in enumerate(many.guests)
    )


@settings(deadline=None)
@given(policy=policies(), data=st.data())
def test_window_is_the_walls_decision(policy: Policy, data: st.DataObject) -> None:
    """Inside its own window, a label's condition is what the security server says of the wall."""
    server = SecurityServer(policy)
    running: list[Running] = []
    held: set[MemberName] = set()
    for name in data.draw(st.lists(st.sampled_from([g.name for g in policy.guests]), max_size=3)
                          if policy.guests else st.just([])):
        if server.launch(name, running).permitted:
            running.append(Running(len(running) + 1, "vm", name))
            held |= policy.labels[name].members
    for index, label in enumerate(policy.guests):
        if server.authorize(label.name).permitted:
            (condition,) = encoding.windows(policy, label, index)
            decided = server.launch(label.name, running).permitted
            assert holds(condition, setting_for(policy, index, True, held)) is decided
            assert not holds(condition, setting_for(policy, index, False, held))


def test_long_conditions_stay_shallow() -> None:
    """The hypervisor evaluates with a stack of ten places."""
    wide = EDGES["seventy in one wall"]
    assert depth(encoding.windows(wide, wide.guests[0], 0)[0]) == 3
    assert depth(encoding.windows(BANKS, BANKS.guests[0], 0)[0]) == 2
    assert depth(encoding.conjunction([f"b{i}" for i in range(5000)])) <= 4


@settings(deadline=None)
@given(a=names(), b=names())
def test_names_do_not_clash(a: str, b: str) -> None:
    made = [
        {encoding.type_of(LabelName(n)), encoding.coalition_attribute(CoalitionName(n)),
         encoding.running_boolean(MemberName(n)),
         *(encoding.mechanism_attribute(CoalitionName(n), m) for m in cil.MECHANISMS),
         encoding.peers_attribute(LabelName(n), 1),
         *(encoding.resource_type(k, n) for k in ResourceKind if k.physical)}
        for n in (a, b)
    ]
    assert (made[0] & made[1] == set()) is (a != b)
    fixed = {encoding.SELF_TYPE, encoding.CHANNEL_TYPE, encoding.ALL_LABELS, encoding.MANAGED,
             encoding.SPEAKING_TYPE, encoding.MUTE_TYPE, encoding.EXEMPT, encoding.ENABLE,
             encoding.DOM0_TYPE, "win_b0",
             "speakch_peer", "mutech_peer", "irq_t", "ioport_t", "iomem_t", "device_t",
             encoding.users_attribute(1)}
    assert not made[0] & fixed


def test_conjunction_of_postfix() -> None:
    assert conditions.conjunction(["a", "b", "!", "&&"]) == {"a": True, "b": False}
    assert conditions.conjunction(["a", "b", "||"]) is None
    assert conditions.conjunction(["a", "a", "!", "&&"]) is None
    assert conditions.conjunction(["a", "b"]) is None
    assert conditions.conjunction(["!"]) is None


_TOKENS = st.recursive(
    st.sampled_from("abcd").map(lambda name: (name,)),
    lambda inner: st.one_of(
        inner.map(lambda tokens: (*tokens, "!")),
        st.tuples(inner, inner, st.sampled_from(["&&", "||", "^", "==", "!="])).map(
            lambda made: (*made[0], *made[1], made[2])
        ),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    either=st.lists(_TOKENS, max_size=3),
    cubes=st.lists(st.dictionaries(st.sampled_from("abcd"), st.booleans()), max_size=3),
    spelled=st.booleans(),
)
def test_equivalence_agrees_with_trying_everything(
    either: list[tuple[str, ...]], cubes: list[dict[str, bool]], spelled: bool
) -> None:
    if spelled and all(cubes):  # the same cubes, in the binary's own order and spelling
        either = [
            tuple(
                word for n, (name, value) in enumerate(cube.items())
                for word in (name, *([] if value else ["!"]), *(["&&"] if n else []))
            )
            for cube in reversed(cubes)
        ]
    same = True
    for number in range(16):
        setting = {name: bool(number >> i & 1) for i, name in enumerate("abcd")}
        wanted = any(
            all(setting[name] is value for name, value in cube.items()) for cube in cubes
        )
        same &= any(conditions.evaluate(tokens, setting) for tokens in either) is wanted
    assert conditions.equivalent(either, cubes) is same
