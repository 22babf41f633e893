"""GRUB's script language: how it is read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.attest.grub.script import Command, Function, If, parse
from shype.base.errors import BadInput

VALUES = {"a": "one", "two": "x y", "none": ""}


def words(text: str) -> list[str]:
    command, = parse(text, "x")
    assert isinstance(command, Command)
    return [word for one in command.words for word in one.expand(lambda name: VALUES.get(name, ""))]


@pytest.mark.parametrize(("text", "expected"), [
    ("set a=b", ["set", "a=b"]),
    ("echo  'a  b' \"c d\"", ["echo", "a  b", "c d"]),
    ("echo $a ${a}x \"$a\" '$a' \\$a", ["echo", "one", "onex", "one", "$a", "$a"]),
    ("[ -n \"$none\" ]", ["[", "-n", "", "]"]),
    ("[ -n $none ]", ["[", "-n", "]"]),
    ("x $two", ["x", "x", "y"]),
    ("x a$two\"z\"", ["x", "ax", "yz"]),
    ("x \"$two\"", ["x", "x y"]),
    ("echo \"a\\\"b\\$c\\d\"", ["echo", "a\"b$c\\d"]),
    ("echo a \\\n b # a comment", ["echo", "a", "b"]),
    ("echo a#b", ["echo", "a#b"]),
    ("source ($root)/x", ["source", "()/x"]),
])
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_conditions_functions_and_blocks() -> None:
    script = parse("""
# a comment
if [ a ]; then b
elif c ; then
  d; e
else f
fi
function g { h ; }
menuentry 'x' --id y { # not the end: }
\techo "}"
  if a; then b; fi }
""", "x")
    condition, function, entry = script
    assert isinstance(condition, If)
    assert isinstance(function, Function)
    assert isinstance(entry, Command)
    assert [len(body) for _, body in condition.branches] == [1, 2]
    assert len(condition.otherwise) == 1
    assert function.name == "g"
    assert entry.block == "{ # not the end: }\n\techo \"}\"\n  if a; then b; fi }"


@pytest.mark.parametrize("text", [
    "for a in b; do c; done", "while a; do b; done", "if a; then b", "if a; fi", "fi", "then",
    "echo 'a", "echo \"a", "echo $", "echo ${a", "a & b", "a | b", "a > b", "ls *.cfg", "}",
    "{ a }", "x { a } b", "menuentry x { a",
    "! a", "if " * 100, "x {" * 100,
])
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text, "grub.cfg")
    assert caught.value.id == "reference.grub-script"
    assert caught.value.message.startswith("grub.cfg:")


@given(st.text(alphabet="ab {}$'\"\\;#\n=[]()!&if then fi else", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        parse(text, "x")
