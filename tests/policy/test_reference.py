"""The language reference says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from shype.policy import reading, schema, yaml_source
from shype.policy.grammar import NAME_LIMIT, VM_LIMIT
from shype.policy.loader import check_text
from tests.policy.bad_policies import GOOD

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/reference/policy-language.md").read_text(encoding="utf-8")


def test_its_example_is_valid_and_the_one_that_findings_refer_to() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    assert blocks == [GOOD]
    assert check_text(blocks[0], "reference")[1] == ()


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


def test_its_limits_are_the_programs() -> None:
    assert f"at most {NAME_LIMIT} characters" in TEXT.replace("\n", " ")
    assert f"at most {VM_LIMIT} characters" in TEXT
    assert f"{reading.SIZE_LIMIT // 1024**2} MiB" in TEXT
    assert f"{yaml_source.DEPTH_LIMIT} levels" in TEXT
    assert f"{yaml_source.VALUE_LIMIT:,} values" in TEXT
