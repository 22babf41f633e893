"""Changes of files that can be shown, made twice, and undone to the byte.

The record of them is written first: killed at any moment, an installation can be repeated or
undone. A file that somebody else has changed since is never overwritten.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from shype.base import canonical
from shype.base.errors import BadInput, Unavailable
from shype.base.files import write_atomic
from shype.host.install.places import Places

_BEGIN, _END = "# shype begin\n", "# shype end\n"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file as it is to be: ``text`` is all of it, or (``block``) a part of a file that may have
    more, or (``link``) where a symbolic link leads. ``path`` is from the root on, without it."""

    path: str
    text: str
    mode: int = 0o644
    block: bool = False
    link: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What is recorded of a file: digests of it before (None: there was none) and after."""

    before: str | None
    before_mode: int
    after: str
    block: str | None
    link: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that differs from what it is to be: its lines as `diff -u` shows them."""

    path: str
    lines: tuple[str, ...]


def differences(places: Places, wanted: Sequence[Wanted]) -> tuple[Difference, ...]:
    """What `apply` would change, and nothing is changed."""
    found = []
    for one in wanted:
        old, new = _content(places.root / one.path), _after(places, one)
        if old != new or _mode_differs(places.root / one.path, one):
            found.append(Difference(one.path, tuple(difflib.unified_diff(
                _lines(old), _lines(new), f"/{one.path}" if old is not None else "/dev/null",
                f"/{one.path}"))))
    return tuple(found)


def apply(places: Places, wanted: Sequence[Wanted], options: Mapping[str, object]) -> tuple[
        Difference, ...]:
    """Make the files so; what was changed. Raises BadInput (``install.changed``), OSError."""
    done, _ = recorded(places)
    changed = differences(places, wanted)
    foreign = [one.path for one in wanted if _foreign(places, one, done.get(one.path))]
    if foreign:
        raise BadInput("install.changed", "somebody has changed what shype put there: "
                       + ", ".join(f"/{path}" for path in foreign),
                       "keep a copy of your change, remove the file, and run the command again")
    places.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    entries = dict(done)
    for one in wanted:
        path, new = places.root / one.path, _after(places, one)
        old, known = _content(path), done.get(one.path)
        before, mode = (_digest(old), _mode(path)) if known is None else (
            known.before, known.before_mode)
        if known is None and old is not None:
            write_atomic(places.kept / _sure(before), old, 0o600)
        if one.block and known is not None and old is not None:
            # The administrator's own lines may have changed meanwhile: they are the file before.
            plain = _without(old)
            first = b"" if before is None else _ended((places.kept / before).read_bytes())
            if _ended(plain) != first:
                before = _sure(_digest(plain))
                write_atomic(places.kept / before, plain, 0o600)
        entries[one.path] = Done(before, mode, _sure(_digest(new)),
                                 _digest(one.text.encode()) if one.block else None, one.link)
    _save(places, entries, options)
    for one in wanted:
        if one.path in {difference.path for difference in changed}:
            path = places.root / one.path
            mode = _mode(path) if one.block and path.exists() else one.mode
            _put(path, _after(places, one), mode, one.link)
    return changed


def undo(places: Places) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Put everything back; the files that are as before, and those left since somebody changed
    them. The record of the latter stays."""
    done, options = recorded(places)
    restored, left = [], {}
    for name, entry in sorted(done.items(), reverse=True):
        path = places.root / name
        now = _content(path)
        if (now is None and entry.before is not None) or not _is_ours(now, entry):
            if _digest(now) != entry.before:
                left[name] = entry
                continue
        elif _digest(now) == entry.after:
            _restore(places, path, entry)
        elif now is not None:  # a block, and around it somebody's own lines
            write_atomic(path, _without(now), _mode(path))
        restored.append(name)
    if left:
        _save(places, left, options)
    else:
        places.record.unlink(missing_ok=True)
    needed = {entry.before for entry in left.values()}
    if places.kept.is_dir():
        for copy in places.kept.iterdir():
            if copy.name not in needed:
                copy.unlink()
        if not left:
            places.kept.rmdir()
    return tuple(restored), tuple(left)


def recorded(places: Places) -> tuple[dict[str, Done], dict[str, object]]:
    """The files that were changed, and the options. Raises Unavailable (``install.record``)."""
    try:
        value = json.loads(places.record.read_bytes())
        return ({name: Done(**entry) for name, entry in value["files"].items()},
                dict(value["options"]))
    except FileNotFoundError:
        return {}, {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unavailable("install.record", f"{places.record} is damaged: {error}",
                          f"the files as they were are in {places.kept}") from error


def _save(places: Places, entries: Mapping[str, Done], options: Mapping[str, object]) -> None:
    places.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(places.record, canonical.dumps({
        "format": 1, "options": dict(options),
        "files": {name: asdict(entry) for name, entry in entries.items()},
    }), 0o600)


def _restore(places: Places, path: Path, entry: Done) -> None:
    if entry.before is None:
        path.unlink(missing_ok=True)
        return
    data = (places.kept / entry.before).read_bytes()
    if path.is_symlink():
        path.unlink()
    write_atomic(path, data, entry.before_mode)


def _is_ours(now: bytes | None, entry: Done) -> bool:
    if now is None or _digest(now) == entry.after:
        return True
    return entry.block is not None and _digest(_block(now)) == entry.block


def _foreign(places: Places, one: Wanted, known: Done | None) -> bool:
    now = _content(places.root / one.path)
    if now is None or now == _after(places, one):
        return False
    if known is None:
        # Not ours to replace, unless only a block of it is.
        return not one.block
    return not _is_ours(now, known) and _digest(now) != known.before


def _after(places: Places, one: Wanted) -> bytes:
    text = one.text.encode()
    if not one.block:
        return text
    plain = _ended(_without(_content(places.root / one.path) or b""))
    return plain + _BEGIN.encode() + text + _END.encode()


def _ended(plain: bytes) -> bytes:
    """With a newline at its end, if there is anything."""
    return plain + b"\n" if plain and not plain.endswith(b"\n") else plain


def _block(data: bytes) -> bytes | None:
    _, begin, rest = data.partition(_BEGIN.encode())
    inside, end, _ = rest.partition(_END.encode())
    return inside if begin and end else None


def _without(data: bytes) -> bytes:
    before, begin, rest = data.partition(_BEGIN.encode())
    _, end, after = rest.partition(_END.encode())
    return before + after if begin and end else data


def _content(path: Path) -> bytes | None:
    """A file's content, a link's target; None if there is nothing."""
    try:
        if path.is_symlink():
            return os.fsencode(path.readlink())
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _put(path: Path, data: bytes, mode: int, link: bool) -> None:
    if not link:
        write_atomic(path, data, mode)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(data.decode())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode) if path.exists() else 0o644


def _mode_differs(path: Path, one: Wanted) -> bool:
    return not one.block and not one.link and path.exists() and _mode(path) != one.mode


def _digest(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


def _sure(digest: str | None) -> str:
    assert digest is not None
    return digest


def _lines(data: bytes | None) -> list[str]:
    return [] if data is None else data.decode(errors="replace").splitlines(keepends=True)
