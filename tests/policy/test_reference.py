"""The language reference says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from shype.policy import reading, schema, yaml_source
from shype.policy.grammar import LATTICE_LIMIT, NAME_LIMIT, VM_LIMIT
from shype.policy.loader import check_text
from shype.policy.mechanism import SWITCHABLE
from shype.policy.model import ResourceKind
from shype.policy.resources import PATTERN_LIMIT
from tests.policy import language_page
from tests.policy.good_policies import ASSERTED, GOOD

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/reference/policy-language.md").read_text(encoding="utf-8")


def test_its_example_is_valid_and_the_one_that_findings_refer_to() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    assert blocks == [GOOD, ASSERTED]
    for block in blocks:
        assert check_text(block, "reference")[1] == ()


def test_its_examples_exist() -> None:
    names = set(re.findall(r"examples/[a-z-]+\.yaml", TEXT))
    assert len(names) >= 4
    assert all((ROOT / name).is_file() for name in names)


def test_its_table_has_every_key_and_which_are_required() -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (yes|no) \|", TEXT, flags=re.MULTILINE))
    published = schema.document()
    assert rows == {
        name: "yes" if name in published["required"] else "no" for name in published["properties"]
    }


def test_it_has_every_mechanism_and_kind() -> None:
    assert all(f"`{word}`" in TEXT for word in (*SWITCHABLE, *ResourceKind))


def test_every_key_is_listed_from_the_schema() -> None:
    page = language_page.page()
    assert language_page.PAGE.read_text(encoding="utf-8") == page, (
        "run: python -m tests.policy.language_page"
    )
    for key in ("guards.NAME.expires", "resources[].pci", "coalitions.NAME.write-up",
                "walls.NAME.members", "levels.order", "policy.from"):
        assert f"| `{key}` |" in page


def test_its_limits_are_the_programs() -> None:
    assert f"at most {NAME_LIMIT} characters" in TEXT.replace("\n", " ")
    assert f"at most {VM_LIMIT} characters" in TEXT
    assert f"{reading.SIZE_LIMIT // 1024**2} MiB" in TEXT
    assert f"{yaml_source.DEPTH_LIMIT} levels" in TEXT
    assert f"{LATTICE_LIMIT:,} sensitivities" in TEXT
    assert f"{PATTERN_LIMIT:,} patterns" in TEXT
    assert f"{yaml_source.VALUE_LIMIT:,} values" in TEXT
