"""The structure of a policy: jsonschema judges by the published schema, this module explains.

Every violation becomes a finding at the value, key or list entry that causes
it, with a sentence about *this* policy instead of about JSON Schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from shype.policy import grammar
from shype.policy.findings import Id, error, show
from shype.policy.schema_index import Index, Place
from shype.policy.source import Finding, Span
from shype.policy.suggest import Suggester
from shype.policy.yaml_source import Node, Scalar, Sequence, describe

#: Violations looked at in one file; more do not help anybody.
_LIMIT = 5_000
#: The kinds of files, by the key that says the version of the language.
POLICY, ASSERTIONS = "shype", "shype-assert"
_MECHANISMS = "write one of `event`, `grant`, `argo`, `disk`, `network` and `xenstore`"
_TWO_LEVELS = "a list of two levels"
LEVEL_FIX = "write NAME, or NAME {CATEGORY, CATEGORY} in quotes, or NAME {all}"
#: What is spelled in a way of its own, by its title, and how to mend it.
_FORMS = {
    "a time, such as `10 minutes`":
        "write a whole number and `seconds`, `minutes`, `hours` or `days`, such as `10 minutes`",
    "an Ed25519 public key in base64, 60 characters":
        "copy the line in the middle of verifier.pub, as `shype attest init` writes it",
    "an amount of memory, such as `2 GiB`":
        "write a whole number and `KiB`, `MiB`, `GiB` or `TiB`, such as `2 GiB`",
    "a rate, such as `100 Mbit/s`":
        "write a whole number and `kbit/s`, `Mbit/s` or `Gbit/s`, such as `100 Mbit/s`",
    "a share of one processor, such as `50 %`":
        "write a whole number and ` %`, such as `50 %`; two processors are `200 %`",
    "the name of a host": "write the name or address by which ssh knows the host",
}
_NAMES_ARE = "lower-case letters and digits, starting with a letter, words joined by single hyphens"


def text() -> str:
    """The published JSON Schema (draft 2020-12), as it is shipped."""
    return resources.files("shype.policy").joinpath("schema.json").read_text(encoding="utf-8")


@cache
def document() -> dict[str, Any]:
    """The published JSON Schema as a value; do not change it."""
    value = json.loads(text())
    assert isinstance(value, dict)
    return value


@cache
def assertion_document() -> dict[str, Any]:
    """The JSON Schema of a file of assertions: the policy's, with another top."""
    policy = document()
    return {
        "$schema": policy["$schema"],
        "$id": "urn:shype:assertions:1",
        "title": "assertions about a shype policy, version 1 of the language",
        "type": "object",
        "required": [ASSERTIONS, "assert"],
        "additionalProperties": False,
        "properties": {
            ASSERTIONS: policy["properties"][POLICY], "assert": policy["properties"]["assert"],
        },
        "$defs": policy["$defs"],
    }


def violations(root: Node, kind: str = POLICY) -> list[Finding]:
    """What is wrong with the structure of the policy ``root``, in no particular order.

    Empty exactly if jsonschema finds it valid under `document`; with ``kind``
    `ASSERTIONS`, under `assertion_document`.
    """
    index = Index()
    instance = index.instance(root, ())
    found: dict[tuple[str, Span], Finding] = {}
    explain = _Explainer(root, index, kind)
    for violation in islice(_validator(kind).iter_errors(instance), _LIMIT):
        for finding in explain.findings(violation):
            found.setdefault((finding.id, finding.span), finding)
    return list(found.values())


def _unique(
    validator: Validator, wanted: bool, instance: object, schema: object
) -> Iterator[ValidationError]:
    """``uniqueItems`` in linear time (jsonschema compares each with each if types differ)."""
    if wanted and isinstance(instance, list):
        names = [item for item in instance if isinstance(item, str)]
        if len(set(names)) != len(names):
            yield ValidationError("has non-unique elements")


@cache
def _validator(kind: str) -> Validator:
    strict = extend(Draft202012Validator, {"uniqueItems": _unique})  # type: ignore[no-untyped-call]
    made: Validator = strict(_inlined(document() if kind == POLICY else assertion_document()))
    return made


def _inlined(part: Any) -> Any:
    """``part`` with what its references name: following them costs more than all the rest."""
    if isinstance(part, list):
        return [_inlined(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(document()["$defs"][part["$ref"].rsplit("/", 1)[1]])
    return {key: _inlined(value) for key, value in part.items() if key != "$defs"}


class _Explainer:
    """One violation in, findings out."""

    def __init__(self, root: Node, index: Index, kind: str) -> None:
        self._root = root
        self._kind = kind
        self._index = index
        self._suggest = Suggester()
        self._by_keyword: dict[str, Callable[[ValidationError, Place], Iterator[Finding]]] = {
            "additionalProperties": self._unknown_keys,
            "required": self._missing_keys,
            "type": self._type,
            "pattern": self._spelling,
            "maxLength": self._spelling,
            "minLength": self._spelling,
            "minItems": self._too_few,
            "maxItems": self._too_many,
            "minProperties": self._too_few,
            "uniqueItems": self._duplicates,
            "const": self._value,
            "enum": self._value,
        }

    def findings(self, violation: ValidationError) -> Iterator[Finding]:
        place = self._index[violation.absolute_path]
        if "propertyNames" in violation.absolute_schema_path:
            key = place.keys[str(violation.instance)]
            place = Place(key, key, {})
        keyword = str(violation.validator)
        yield from self._by_keyword[keyword](violation, place)

    def _schema(self, violation: ValidationError) -> dict[str, Any]:
        assert isinstance(violation.schema, dict)
        return violation.schema

    def _title(self, violation: ValidationError) -> str:
        return str(self._schema(violation)["title"])

    def _what(self, place: Place) -> str:
        """How to speak of the value: by its key if it has one."""
        return show(place.key.text) if place.key is not None else "this"

    def _unknown_keys(self, violation: ValidationError, place: Place) -> Iterator[Finding]:
        properties = self._schema(violation).get("properties", {})
        allowed = list(properties)
        if not allowed:
            return
        for name, key in place.keys.items():
            if name not in allowed:
                near = self._suggest.nearest(name, allowed)
                known = ", ".join(f"`{word}`" for word in allowed)
                under = next((word for word, part in properties.items()
                              if name in part.get("properties", {})), None)
                fix = f"did you mean `{near}`?" if near else f"known keys here: {known}"
                if under is not None:
                    fix = f"it belongs under `{under}`: {under}: {{{name}: ...}}"
                yield error(
                    Id.KEY_UNKNOWN, key.span, f"the key {show(name)} is unknown here", fix)

    def _missing_keys(self, violation: ValidationError, place: Place) -> Iterator[Finding]:
        schema = self._schema(violation)
        missing = [name for name in schema["required"] if name not in place.keys]
        if not missing:
            return
        span = place.key.span if place.key is not None else self._root.span
        where = f"in {show(place.key.text)}" if place.key is not None else (
            "in the policy" if self._kind == POLICY else "in the file")
        names = ", ".join(f"`{name}`" for name in missing)
        needs = "; ".join(f"`{name}:` is {_title_of(schema, name)}" for name in missing)
        yield error(
            Id.KEY_MISSING, span,
            f"{'keys are' if len(missing) > 1 else 'a key is'} missing {where}: {names}",
            f"add what is missing: {needs}",
        )

    def _type(self, violation: ValidationError, place: Place) -> Iterator[Finding]:
        node, schema, title = place.node, self._schema(violation), self._title(violation)
        wanted, pattern = schema["type"], schema.get("pattern")
        text_expected = wanted == "string" and "enum" not in schema
        if isinstance(node, Scalar) and text_expected and node.kind != "null":
            if pattern is None or re.search(pattern, node.text):
                yield error(
                    Id.TYPE_QUOTE, node.span,
                    f"{show(node.text)} without quotes is {describe(node)} in YAML, not text",
                    f'write it in quotes: "{node.text}"',
                )
            else:
                yield from self._spelling(violation, place)
            return
        if place.key is None and node is self._root:
            what, more = ("a policy", "; examples/banks.yaml is a policy to start from") \
                if self._kind == POLICY else ("a file of assertions", "")
            yield error(
                Id.TYPE_WRONG, node.span,
                f"{what} is a mapping (keys with values), but this is {describe(node)}",
                f"start with `{self._kind}: 1`{more}",
            )
            return
        fix = f"write {title} here"
        if title == "the number 1":
            fix = f"write `{self._kind}: 1`"
        elif "array" in wanted and isinstance(node, Scalar) and node.kind == "str":
            fix = f"write a list: [{node.text[:60]}]"
        elif wanted == "object" and isinstance(node, Scalar) and node.kind == "null":
            fix = f"write {title}{_least(schema)}"
        what = self._what(place)
        found = describe(node)
        if isinstance(node, Scalar) and found == "a number" and (
                wanted == "integer" or (title == "the number 1" and node.kind == "float")):
            found = show(node.text)
        message = f"{what} must be {title}, but it is {found}"
        yield error(Id.TYPE_WRONG, node.span, message, fix)

    def _spelling(self, violation: ValidationError, place: Place) -> Iterator[Finding]:
        node, schema = place.node, self._schema(violation)
        assert isinstance(node, Scalar)
        text, title = node.text, self._title(violation)
        if title == "a level":
            yield from _not_a_level(node)
        elif violation.validator == "maxLength":
            limit = schema["maxLength"]
            yield error(
                Id.NAME_TOO_LONG, node.span,
                f"{show(text)} has {len(text)} characters; {title} has at most {limit}",
                "choose a shorter one",
            )
        elif title == "a version":
            digits = [*re.findall(r"[0-9]+", text[:40]), "0", "0"][:2]
            example = ".".join(str(int(part[:9])) for part in digits)
            yield error(
                Id.POLICY_VERSION, node.span,
                f"{show(text)} is not a version: it has the form MAJOR.MINOR, two whole numbers "
                "without leading zeros",
                f'write for example "{example}", in quotes',
            )
        elif title == "a reason":
            yield error(
                Id.GUARD_REASON, node.span, "a guard's reason must say something",
                "write why information may pass here, for whoever reviews the policy",
            )
        elif title == "a date":
            yield not_a_day(text, node.span)
        elif title == "a VM name or UUID":
            yield error(
                Id.VM_ID, node.span, f"{show(text)} cannot be {title}",
                "use the name or the UUID that the toolstack shows: letters, digits and _.+:@-, "
                "starting with a letter, a digit or _",
            )
        elif title in _FORMS:
            yield error(
                Id.VALUE_NOT_ALLOWED, node.span, f"{show(text)} is not {title}", _FORMS[title])
        else:
            near = grammar.as_name(text) if node.kind == "str" else ""
            yield error(
                Id.NAME_PATTERN, node.span, f"{show(text)} is not a name: names are {_NAMES_ARE}",
                f"write for example `{near}`" if near else "choose a name such as `web-1`",
            )

    def _too_few(self, violation: ValidationError, place: Place) -> Iterator[Finding]:
        path = list(violation.absolute_path)
        if self._title(violation) == _TWO_LEVELS:
            yield from self._too_many(violation, place)
            return
        if violation.validator_value == 2:
            yield error(
                Id.WALL_TOO_SMALL, place.node.span,
                f"the conflict set {show(str(path[1]))} has fewer than two members, so that "
                "nothing conflicts",
                "name at least two members, or delete the conflict set",
            )
            return
        optional = len(path) > 1 and path[-1] in ("coalitions", "wall")
        yield error(
            Id.SET_EMPTY, place.node.span, f"{self._what(place)} is empty",
            "delete the key if the label shall have none" if optional
            else f"name at least one: {self._title(violation)}",
        )

    def _too_many(self, violation: ValidationError, place: Place) -> Iterator[Finding]:
        assert isinstance(place.node, Sequence)
        if self._title(violation) != _TWO_LEVELS:
            yield error(
                Id.SET_TOO_LARGE, place.node.span,
                f"{self._what(place)} has {len(place.node.items)} entries; it has at most "
                f"{violation.validator_value}",
                "use fewer",
            )
            return
        yield error(
            Id.LEVEL_SYNTAX, place.node.span,
            f"{self._what(place)} has {len(place.node.items)} levels; a range has two, the low end "
            "and the high end",
            "write one level without brackets, or a list of two",
        )

    def _duplicates(self, violation: ValidationError, place: Place) -> Iterator[Finding]:
        assert isinstance(place.node, Sequence)
        first: dict[str, Span] = {}
        for item in place.node.items:
            if not isinstance(item, Scalar) or item.kind != "str":
                continue
            if item.text in first:
                yield error(
                    Id.LIST_DUPLICATE, item.span,
                    f"{show(item.text)} stands in this list a second time "
                    f"(first in line {first[item.text].line})",
                    "delete one of the two",
                )
            first.setdefault(item.text, item.span)

    def _value(self, violation: ValidationError, place: Place) -> Iterator[Finding]:
        node, title = place.node, self._title(violation)
        if not isinstance(node, Scalar):
            return  # a violation of `type` too, as are other kinds of scalars below
        if title == "the number 1":
            if node.kind == "int":
                yield unsupported(node, self._kind)
            return
        if node.kind != "str":
            return
        if title == "a mechanism":
            yield error(
                Id.MECHANISM_UNKNOWN, node.span, f"there is no mechanism {show(node.text)}",
                self._suggest.fix(node.text, self._schema(violation)["enum"], _MECHANISMS),
            )
            return
        fix = f"write {title}"
        if title == "`all`":
            fix = f"write a list: [{node.text[:60]}]; the word `all` stands for every coalition"
        message = f"{self._what(place)} cannot be {show(node.text)}: it must be {title}"
        yield error(Id.VALUE_NOT_ALLOWED, node.span, message, fix)


def _title_of(schema: dict[str, Any], name: str) -> str:
    part = schema["properties"][name]
    if "$ref" in part:
        part = document()["$defs"][part["$ref"].rsplit("/", 1)[1]]
    return str(part["title"])


def _least(schema: dict[str, Any]) -> str:
    """What a mapping that is empty lacks, behind what it is."""
    if "required" in schema:
        return ": " + "; ".join(
            f"`{name}:` is {_title_of(schema, name)}" for name in schema["required"])
    return "" if schema.get("minProperties") else "; `{}` is the empty mapping"


def _not_a_level(node: Scalar) -> Iterator[Finding]:
    if node.kind == "str":  # otherwise its type is wrong, and that is said
        yield error(
            Id.LEVEL_SYNTAX, node.span, f"{show(node.text)} is not a level", LEVEL_FIX
        )


def not_a_day(text: str, span: Span) -> Finding:
    """The date of a guard is none."""
    return error(
        Id.GUARD_DATE, span, f"{show(text)} is not a day of the calendar",
        'write it as YYYY-MM-DD in quotes, for example "2027-01-31"',
    )


def unsupported(node: Scalar, kind: str = POLICY) -> Finding:
    """The file is written in another version of the language."""
    what = "policy" if kind == POLICY else "file"
    return error(
        Id.VERSION_UNSUPPORTED, node.span,
        f"the {what} is written in version {node.text} of the language; this shype reads version 1",
        f"write the {what} in version 1 (`{kind}: 1`), or install a shype that reads version "
        f"{node.text}",
    )
