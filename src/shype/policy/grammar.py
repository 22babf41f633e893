"""The spelling of names, versions and VM ids (standard library only: the agent uses it too)."""

from __future__ import annotations

import re

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
