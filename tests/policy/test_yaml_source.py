"""YAML with positions: the same tree from both of PyYAML's parsers, within limits."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shype.policy import yaml_source
from shype.policy.findings import Id
from shype.policy.source import Span
from shype.policy.yaml_source import (
    DEPTH_LIMIT,
    Mapping,
    Node,
    Scalar,
    Sequence,
    parse,
)
from tests.policy.bad_policies import CASES
from tests.policy.good_policies import GOOD
from tests.policy.strategies import PATIENT

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures/policies"
PARSERS = [yaml.SafeLoader, yaml.CSafeLoader] if yaml.__with_libyaml__ else [yaml.SafeLoader]

both = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)


def _at(line: int, column: int) -> Span:
    return Span("f", line, column)


@both
def test_every_key_and_value_has_its_place(parser: type) -> None:
    source = parse("é: [ñ, 'b c']\nk:\n  - 1\n  - {x: y}\n", "f", parser)
    assert source.findings == ()
    assert source.root == Mapping(_at(1, 1), (
        (Scalar(_at(1, 1), "é", "str"), Sequence(_at(1, 4), (
            Scalar(_at(1, 5), "ñ", "str"), Scalar(_at(1, 8), "b c", "str"),
        ))),
        (Scalar(_at(2, 1), "k", "str"), Sequence(_at(3, 3), (
            Scalar(_at(3, 5), "1", "int"),
            Mapping(_at(4, 5), ((Scalar(_at(4, 6), "x", "str"), Scalar(_at(4, 9), "y", "str")),)),
        ))),
    ))


@both
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("no", "bool"), ("on", "bool"), ("True", "bool"), ("~", "null"), ("null", "null"),
        ("1.0", "float"), ("1e3", "str"), (".inf", "float"), ("1", "int"), ("0", "int"),
        ("-1", "number"), ("010", "number"), ("0x1f", "number"), ("1:30", "number"),
        ("1_000", "number"), ("9" * 5000, "number"), ("2020-01-01", "timestamp"), ("=", "str"),
        ('"1"', "str"), ("'no'", "str"), ("!!str 1", "str"), ("! 1", "str"), ("a", "str"),
    ],
)
def test_what_yaml_takes_a_word_for(parser: type, text: str, kind: str) -> None:
    source = parse(f"- {text}\n", "f", parser)
    assert source.findings == ()
    assert isinstance(source.root, Sequence)
    item = source.root.items[0]
    assert isinstance(item, Scalar)
    assert item.kind == kind


@both
def test_an_alias_stands_where_it_is_used(parser: type) -> None:
    source = parse("a: &x [one]\nb: *x\n", "f", parser)
    assert isinstance(source.root, Mapping)
    assert source.root.get("b") == Sequence(_at(2, 4), (Scalar(_at(1, 8), "one", "str"),))
    key = source.root.key("b")
    assert key is not None
    assert key.span == _at(2, 1)


def _shape(node: Node | None) -> object:
    if isinstance(node, Mapping):
        return [node.span, [(key, _shape(value)) for key, value in node.entries]]
    if isinstance(node, Sequence):
        return [node.span, [_shape(item) for item in node.items]]
    return node


@pytest.mark.parametrize("text", [GOOD, *(bad.text for bad in CASES)])
def test_both_parsers_agree(text: str) -> None:
    """On the tree, and on every finding that is ours and not the parser's."""
    if "\0" in text or "\x1b" in text:
        return
    plain, fast = (parse(text, "f", parser) for parser in (PARSERS[0], PARSERS[-1]))
    assert [f.id for f in plain.findings] == [f.id for f in fast.findings]
    # Where nothing stands between two tokens the parsers disagree on where that nothing is.
    nothing = re.search(r": ?[\n}]", text.replace(":\n  ", "")) is not None
    if not nothing and Id.YAML_SYNTAX not in [f.id for f in plain.findings]:
        assert _shape(plain.root) == _shape(fast.root)
        assert plain.findings == fast.findings


@both
def test_depth_is_limited_and_never_a_recursion_error(parser: type) -> None:
    deepest = "[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT
    assert parse(deepest, "f", parser).findings == ()
    for text in ("[" + deepest + "]", "[" * 100_000, "- " * 100_000, "{a: " * 100_000,
                 "? " * 100_000):
        source = parse(text, "f", parser)
        assert source.root is None
        assert [f.id for f in source.findings] == [Id.YAML_TOO_DEEP]


def test_billion_laughs_cost_nothing() -> None:
    text = (FIXTURES / "billion-laughs.yaml").read_text(encoding="utf-8")
    begun = time.process_time()
    source = parse(text, "f")
    assert time.process_time() - begun < 1
    assert [f.id for f in source.findings] == [Id.YAML_TOO_MANY]


def test_the_number_of_values_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_source, "VALUE_LIMIT", 1000)  # the real one takes seconds to reach
    assert parse("[" + "a," * 999 + "]", "f").findings == ()
    source = parse("[" + "a," * 1000 + "]", "f")
    assert [f.id for f in source.findings] == [Id.YAML_TOO_MANY]
    # A text that is long because it has many labels is not refused for it.
    assert parse("[" + "abcd, " * 1200 + "]", "f").findings == ()


def test_many_duplicate_keys_take_linear_time() -> None:
    keys = "".join(f"k{i}: a\n" for i in range(30_000))
    begun = time.process_time()
    source = parse(keys + "k29999: b\n" * 30_000, "f")
    assert time.process_time() - begun < 20
    assert len(source.findings) == 30_000


@both
def test_an_anchor_may_be_set_again(parser: type) -> None:
    source = parse("- &x a\n- &x b\n- *x\n", "f", parser)
    assert isinstance(source.root, Sequence)
    assert source.root.items[2] == Scalar(_at(3, 3), "b", "str")


@both
def test_an_unclosed_bracket_is_shown_where_it_opens(parser: type) -> None:
    source = parse("a:\n  b: [c\n\n\n", "f", parser)
    assert [(f.id, f.span) for f in source.findings] == [(Id.YAML_SYNTAX, _at(2, 6))]


_YAMLISH = st.lists(
    st.sampled_from([
        "shype", "labels", ":", ": ", "\n", "\n  ", "\n- ", "[", "]", "{", "}", ",", "&a ",
        "*a", "!!x ", "!", "<<", "? ", "---\n", "...\n", "'", '"', "#", "|\n", ">\n",
        "%YAML 1.1\n",
        "\t", "no", "1.0", "é", "\u2028", "all", "-", "@", "`", "%", "\\", "\r",
    ]),
    max_size=40,
).map("".join)


@both
@PATIENT
@given(text=st.one_of(_YAMLISH, st.text(max_size=60)))
def test_random_text_never_raises(parser: type, text: str) -> None:
    source = parse(text, "f", parser)
    assert source.root is not None or source.findings
    for finding in source.findings:
        assert finding.span.line >= 1
        assert finding.span.column >= 1


@both
def test_a_level_without_its_quotes_gets_them_as_the_fix(parser: type) -> None:
    source = parse("labels:\n  a: {level: secret {crew, pay}, coalitions: [b]}\n", "f", parser)
    assert [f.id for f in source.findings] == [Id.YAML_SYNTAX]
    assert 'level: "secret {crew, pay}"' in source.findings[0].fix
