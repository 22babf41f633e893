"""The spelling of names, versions and VM ids (standard library only: the agent uses it too)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import date

#: Longest name, in characters. The compiler prefixes names (``l_..._t``), and FLASK contexts
#: stay well below the 256 bytes that the toolstack shows.
NAME_LIMIT = 48
#: Longest VM name or UUID, in characters.
VM_LIMIT = 128
#: The word that stands for every coalition; it cannot name one.
ALL = "all"

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_VERSION = re.compile(r"(?:0|[1-9][0-9]{0,8})\.(?:0|[1-9][0-9]{0,8})")
_VM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+:@-]*")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)

_LEVEL = re.compile(r"([^\s{},]+)(?:\s*\{([^{}]*)\})?")
_TIME = re.compile(r"([1-9][0-9]{0,4}) (second|minute|hour|day)s?")
#: DER up to the 32 bytes of an Ed25519 key (RFC 8410 §4), and the key, in base64.
_KEY = re.compile(r"MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=")
#: A host, as ssh knows it.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
#: Longest text of a level, in characters.
LEVEL_LIMIT = 4096
#: Sensitivities, and categories, that one lattice can have.
LATTICE_LIMIT = 1024
#: Configuration vectors that a policy can have.
VECTOR_LIMIT = 16
#: Seconds of each unit of time.
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
#: Longest reason of a guard, in characters.
REASON_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class LevelText:
    """A level as written: its sensitivity and categories, which may not be declared.

    ``everything``: the word `all` stood in the place of the categories.
    """

    sensitivity: str
    categories: tuple[str, ...] = ()
    everything: bool = False


def as_level(text: str) -> LevelText | None:
    """``NAME``, ``NAME {CAT, CAT}`` or ``NAME {all}``; None if ``text`` has another form."""
    match = _LEVEL.fullmatch(text.strip()) if len(text) <= LEVEL_LIMIT else None
    if match is None:
        return None
    inside = match[2]
    if inside is None or not inside.strip():
        return LevelText(match[1])
    categories = tuple(word.strip() for word in inside.split(","))
    if categories == (ALL,):
        return LevelText(match[1], (), everything=True)
    return LevelText(match[1], categories) if all(categories) else None


def as_seconds(text: str) -> int | None:
    """``N seconds`` (``minutes``, ``hours``, ``days``) in seconds; None in any other form."""
    match = _TIME.fullmatch(text)
    return None if match is None else int(match[1]) * UNITS[match[2]]


def as_key(text: str) -> str | None:
    """The 32 bytes, in hexadecimal, of an Ed25519 public key as a .pub file has it in base64."""
    if _KEY.fullmatch(text) is None:
        return None
    return base64.b64decode(text)[-32:].hex()


def is_host(text: str) -> bool:
    """Whether ``text`` can name a host."""
    return _HOST.fullmatch(text) is not None


def as_date(text: str) -> date | None:
    """The day that ``text`` names as YYYY-MM-DD; None if it names none."""
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def has_date_form(text: str) -> bool:
    """Whether ``text`` looks like YYYY-MM-DD; there may be no such day."""
    return _DATE.fullmatch(text) is not None


def is_reason(text: str) -> bool:
    """Whether ``text`` can be a guard's reason: it says something, and not too much."""
    return 0 < len(text) <= REASON_LIMIT and not text.isspace()


def version_order(text: str) -> tuple[int, int]:
    """A valid version as numbers, so that versions compare. Raises ValueError."""
    major, minor = text.split(".")
    return int(major), int(minor)


def is_name(text: str) -> bool:
    """Whether ``text`` can name a policy, coalition, conflict set, member or label."""
    return len(text) <= NAME_LIMIT and _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether ``text`` is ``MAJOR.MINOR``, each a decimal number without leading zeros."""
    return _VERSION.fullmatch(text) is not None


def is_vm(text: str) -> bool:
    """Whether ``text`` can be a VM's name or a UUID (a UUID in lower case, as tools print it)."""
    if len(text) > VM_LIMIT or _VM.fullmatch(text) is None:
        return False
    return not is_uuid(text) or text == text.lower()


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID, in either case."""
    return _UUID.fullmatch(text) is not None


def as_name(text: str) -> str:
    """The valid name nearest to ``text``, or the empty string if nothing of it can stay."""
    words = re.findall(r"[a-z0-9]+", text[: 4 * NAME_LIMIT].lower())
    return re.sub(r"^[0-9-]+", "", "-".join(words))[:NAME_LIMIT].rstrip("-")
