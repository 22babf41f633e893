"""The ids of everything that can be found in a policy file; docs/reference/findings.md has each.

Ids are stable: scripts and documents name them, so none changes its meaning.
"""

from __future__ import annotations

from enum import StrEnum

from shype.policy.source import Finding, Severity, Span


class Id(StrEnum):
    """Stable ids, grouped by what is at fault: the file, YAML, the structure, the meaning."""

    FILE_MISSING = "file.missing"
    FILE_DIRECTORY = "file.directory"
    FILE_NOT_REGULAR = "file.not-regular"
    FILE_UNREADABLE = "file.unreadable"
    FILE_BUNDLE = "file.bundle"
    FILE_TOO_LARGE = "file.too-large"
    FILE_ENCODING = "file.encoding"
    FILE_BOM = "file.bom"
    FILE_CONTROL = "file.control-character"
    FILE_EMPTY = "file.empty"

    YAML_SYNTAX = "yaml.syntax"
    YAML_TAB = "yaml.tab"
    YAML_DOCUMENTS = "yaml.documents"
    YAML_DUPLICATE_KEY = "yaml.duplicate-key"
    YAML_KEY_TYPE = "yaml.key-type"
    YAML_TAG = "yaml.tag"
    YAML_MERGE_KEY = "yaml.merge-key"
    YAML_ALIAS_UNKNOWN = "yaml.alias-unknown"
    YAML_ALIAS_RECURSIVE = "yaml.alias-recursive"
    YAML_TOO_DEEP = "yaml.too-deep"
    YAML_TOO_MANY = "yaml.too-many-values"

    VERSION_UNSUPPORTED = "version.unsupported"
    KEY_UNKNOWN = "key.unknown"
    KEY_MISSING = "key.missing"
    TYPE_WRONG = "type.wrong"
    TYPE_QUOTE = "type.quote"
    VALUE_NOT_ALLOWED = "value.not-allowed"
    NAME_PATTERN = "name.pattern"
    NAME_TOO_LONG = "name.too-long"
    NAME_RESERVED = "name.reserved"
    POLICY_VERSION = "policy.version"
    SET_EMPTY = "set.empty"
    SET_TOO_LARGE = "set.too-large"
    LIST_DUPLICATE = "list.duplicate"
    POLICY_TRUNCATED = "policy.too-many-findings"

    COALITION_UNDECLARED = "coalition.undeclared"
    COALITION_ALL = "coalition.all"
    COALITION_UNUSED = "coalition.unused"
    COALITION_WRITE_UP = "coalition.write-up"
    MECHANISM_UNKNOWN = "mechanism.unknown"
    WALL_TOO_SMALL = "wall.too-small"
    WALL_UNDECLARED_MEMBER = "wall.undeclared-member"
    WALL_SELF_CONFLICT = "wall.self-conflict"
    WALL_UNUSED_MEMBER = "wall.unused-member"
    LEVEL_SYNTAX = "level.syntax"
    LEVEL_UNDECLARED = "level.undeclared"
    CATEGORY_UNDECLARED = "category.undeclared"
    LEVEL_MISSING = "level.missing"
    LEVEL_WITHOUT_SECTION = "level.without-section"
    LEVEL_DOM0 = "level.dom0"
    LEVEL_RANGE = "level.range"
    LEVEL_NOT_TRUSTED = "level.not-trusted"
    GUARD_NAME = "guard.name"
    GUARD_SAME = "guard.same-coalition"
    GUARD_REASON = "guard.reason"
    GUARD_DATE = "guard.date"
    GUARD_EXPIRED = "guard.expired"
    GUARD_EXPIRES_SOON = "guard.expires-soon"
    GUARD_HOST = "guard.host"
    GUARD_UNLABELED = "guard.unlabeled"
    LABEL_NOT_AUTHORIZED = "label.not-authorized"
    HOST_DOM0_UNDECLARED = "host.dom0-undeclared"
    HOST_DOM0_WALL = "host.dom0-wall"
    HOST_DOM0_LOCKED = "host.dom0-locked"
    HOST_OBJECT_MANAGER = "host.object-manager"
    HOST_DOM0_UNLABELED = "host.dom0-unlabeled"
    HOST_MANAGER = "host.manager"
    HOST_DRIVER_UNDECLARED = "host.driver-undeclared"
    HOST_DRIVER_DOM0 = "host.driver-dom0"
    HOST_DRIVER_UNLABELED = "host.driver-unlabeled"
    HOST_STATIC_LIVE = "host.static-live"
    HOST_REVOCATION_BOOT = "host.revocation-boot"
    RESOURCE_KIND = "resource.kind"
    RESOURCE_NAME = "resource.name"
    RESOURCE_LABEL = "resource.label"
    RESOURCE_LABEL_UNDECLARED = "resource.undeclared-label"
    RESOURCE_INACCESSIBLE = "resource.inaccessible"
    RESOURCE_CONFLICT = "resource.conflict"
    RESOURCE_TOO_MANY = "resource.too-many-patterns"
    RESOURCE_DUPLICATE = "resource.duplicate"
    RESOURCE_LABEL_UNUSED = "resource.unused-label"
    RESOURCE_UNMATCHED = "resource.unmatched"
    RETIRED_EXISTS = "retired.exists"
    POLICY_FROM = "policy.from"
    WAS_EXISTS = "was.exists"
    WAS_TWICE = "was.twice"
    ASSERT_KIND = "assert.kind"
    ASSERT_OPTION = "assert.option"
    ASSERT_SYNTAX = "assert.syntax"
    ASSERT_UNKNOWN = "assert.unknown"
    ASSERT_NOTHING = "assert.nothing"
    ASSERT_OVERLAP = "assert.overlap"
    ASSERT_DOM0 = "assert.dom0"
    ASSERT_LEVELS = "assert.no-lattice"
    ASSERT_NAME = "assert.name"
    VECTOR_NOT_STATIC = "vector.not-static"
    VECTOR_UNDECLARED_LABEL = "vector.undeclared-label"
    VECTOR_DOM0 = "vector.dom0"
    VECTOR_TOO_MANY = "vector.too-many"
    VECTOR_UNUSED_LABEL = "vector.unused-label"
    VM_ID = "vm.id"
    VM_DOM0 = "vm.dom0"
    VM_UNDECLARED_LABEL = "vm.undeclared-label"
    VM_DOM0_LABEL = "vm.dom0-label"
    VM_NAMED_LIKE_LABEL = "vm.named-like-label"


def error(id: Id, span: Span, message: str, fix: str) -> Finding:
    """A finding that makes the policy invalid."""
    return Finding(str(id), span, message, fix)


def warning(id: Id, span: Span, message: str, fix: str) -> Finding:
    """A finding that leaves the policy valid."""
    return Finding(str(id), span, message, fix, Severity.WARNING)


def show(text: str) -> str:
    """``text`` from a policy file as it may stand in a message: one line, short, in backquotes."""
    short = text if len(text) <= 60 else text[:57] + "..."
    safe = short if short.isprintable() else short.encode("unicode_escape").decode()
    return f"`{safe}`"
