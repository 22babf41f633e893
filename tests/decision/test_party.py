"""From words to labels."""

from __future__ import annotations

import pytest

from shype.base.errors import BadInput
from shype.decision.party import resolve

from .examples import banks, policy

BANKS = banks()
UUID = "8e5f5a1c-0b5e-4a4b-9b0a-6c0b1b0e7d11"


@pytest.mark.parametrize(
    ("word", "kind", "label", "line"),
    [
        ("bank-a-db", "label", "bank-a-db", 7),
        ("a-db", "vm", "bank-a-db", 16),
        (UUID, "vm", "bank-b-desk", 21),
        (UUID.upper(), "vm", "bank-b-desk", 21),
        ("dom0", "dom0", "manager", 14),
        ("label:hermit", "label", "hermit", 13),
        ("vm:hermit", "vm", "vault", 20),
        ("manager", "label", "manager", 6),
    ],
)
def test_words(word: str, kind: str, label: str, line: int) -> None:
    party = resolve(BANKS, word)
    assert (party.given, party.kind, party.label, party.span.line) == (word, kind, label, line)
    assert party.to_json() == {
        "given": word, "kind": kind, "label": label, "rule": str(party.span)
    }


def test_a_word_with_two_meanings_is_refused() -> None:
    with pytest.raises(BadInput, match="label:hermit or vm:hermit") as error:
        resolve(BANKS, "hermit")
    assert error.value.id == "label.ambiguous"


@pytest.mark.parametrize(
    ("word", "guess"),
    [
        ("bank-a-dv", "bank-a-db"), ("a-desc", "a-desk"), ("label:a-db", ""), ("vm:vault", ""),
        ("label:valt", "vault"), ("", ""), ("A-DB", ""), ("dom", "dom0"), ("zzz", "see `labels:`"),
        ("vm:", ""), ("\ud800", ""),
    ],
)
def test_unknown_words_come_with_a_guess(word: str, guess: str) -> None:
    with pytest.raises(BadInput) as error:
        resolve(BANKS, word)
    assert error.value.id == "label.unknown"
    assert guess in error.value.fix


@pytest.mark.parametrize(("word", "says", "fix"), [
    ("label:a-db", "'a-db' is a VM, not a label", "write vm:a-db"),
    ("vm:vault", "'vault' is a label, not a VM", "write label:vault"),
    (f"label:{UUID.upper()}", "is a VM, not a label", "write vm:"),
])
def test_a_name_of_the_other_kind_is_told_so(word: str, says: str, fix: str) -> None:
    with pytest.raises(BadInput) as error:
        resolve(BANKS, word)
    assert error.value.id == "label.unknown"
    assert says in error.value.message
    assert error.value.fix.startswith(fix)


def test_exact_names_win_over_prefixes() -> None:
    odd = policy(["s"], {}, {"host": (["s"], []), "x": (["s"], []), "dom0": ([], [])}, "host",
                 {"vm:x": "x", "x": "x"})
    assert resolve(odd, "vm:x").given == "vm:x"
    assert resolve(odd, "x").kind == "label"
    assert resolve(odd, "dom0").label == "dom0"
