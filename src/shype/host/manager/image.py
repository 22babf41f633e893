"""The manager's initial RAM disk: Python, shype and the bundle, out of this host's own files.

What goes in is what a process has mapped and imported that has just decided something as the
manager will, so that nothing is missing and nothing else is there: no shell, no tools.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import shype
from shype.base import child, cpio
from shype.base.errors import Unavailable
from shype.host.manager.incoming import require_size
from shype.host.manager.serve import BUNDLE, KEYS, MODULES
from shype.host.trust import load_trusted

#: Runs in a process of its own: all that the manager uses, then what that was.
_REHEARSAL = """\
import encodings.ascii, encodings.idna, encodings.latin_1, encodings.utf_8, json, sys
import base64, datetime, difflib, hashlib, importlib.metadata, site, traceback
from pathlib import Path
from shype.host.manager import incoming, serve
from shype.host.manager.authority import Authority
from shype.host.verify.binary import also_named

class Nobody:
    def target(self): return "xen-0.0"
    def boolean(self, name): return False
    def set_booleans(self, values): pass
    def listed(self): return ()
    def load(self, policy): raise OSError
    def print_grants(self): pass

place, keys = map(Path, sys.argv[1:])
found = serve.succession(place, Path("/nowhere"), keys)
bundle = found.now.bundle
authority = Authority(found, Nobody())
authority.begin()
manifest = bundle.manifest
for label in (*manifest.labels, None):
    values = manifest.window_values(label)
    authority.handle(json.dumps({"id": "x", "op": "set", "values": values}).encode())
for op in ("status", "print", "back", "confirm"):
    authority.handle(json.dumps({"op": op}).encode())
packed = incoming.pack(place.read_bytes())
digest = hashlib.sha256(packed).hexdigest()
authority.handle(json.dumps({"op": "offer", "size": len(packed), "digest": digest}).encode())
for at in range(0, len(packed), incoming.PART):
    data = base64.b64encode(packed[at:at + incoming.PART]).decode()
    authority.handle(json.dumps({"op": "part", "at": at, "data": data}).encode())
authority.handle(b'{"op": "load"}')
files = {getattr(module, "__file__", None) for module in sys.modules.values()}
maps = {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
print(json.dumps(sorted(str(name) for name in files | maps if name and name.startswith("/"))))
"""
_INIT = """\
#!{python} -IB
import sys
sys.path.insert(0, "{package}")
from shype.host.manager.serve import main
main()
"""
#: What a program for Linux names as its loader (PT_INTERP).
_LOADER = re.compile(rb"/lib[0-9]*/ld-linux[0-9A-Za-z._-]+")
#: Directories that are links on a merged /usr, through which programs name their loader.
_LINKS = ("bin", "lib", "lib64", "sbin")


def image(bundle: Path, keys: Path, modules: Iterable[Path]) -> bytes:
    """The archive. ``modules``: xen-privcmd and what it needs, in loading order.

    Raises BadInput (``bundle.*``, ``key.*``), Unavailable (``manager.image``,
    ``manager.too-large``).
    """
    load_trusted(bundle, keys)
    require_size(bundle.stat().st_size)
    package = Path(shype.__file__).parent.parent
    try:
        done = child.run(
            [sys.executable, "-B", "-c", _REHEARSAL, bundle, keys],
            env={"PYTHONPATH": str(package)}, timeout=120)
        names = json.loads(done.out)
    except (child.ChildFailed, ValueError) as error:
        raise Unavailable("manager.image", f"the manager cannot be rehearsed here: {error}",
                          "is this a whole installation of shype?") from error
    files = {Path(name): None for name in names if Path(name).is_file()}
    python = Path(sys.executable).resolve()
    loader = _LOADER.search(python.read_bytes())
    if loader is None:
        raise Unavailable("manager.image", f"{python} names no loader of programs")
    entries = dict(_files((*files, python, Path(loader[0].decode()))))
    entries["init"] = cpio.file(
        "init", _INIT.format(python=python, package=package).encode(), 0o755)
    entries |= dict(_placed(BUNDLE, bundle))
    for key in sorted(keys.glob("*.pub")) if keys.is_dir() else [keys]:
        entries |= dict(_placed(KEYS / key.name, key))
    for number, module in enumerate(modules):
        entries |= dict(_placed(MODULES / f"{number:02}-{module.name}", module))
    for name in _LINKS:
        link = Path("/") / name
        if link.is_symlink():
            entries[name] = cpio.symlink(name, os.readlink(link))  # noqa: PTH115
    for name in ("dev", "proc", "sys", "tmp"):
        entries[name] = cpio.directory(name)
    entries["dev/console"] = cpio.console()
    return cpio.archive(_with_parents(entries))


def _files(paths: Iterable[Path]) -> Iterator[tuple[str, cpio.Entry]]:
    for path in paths:
        real = path.resolve()
        yield from _placed(real, real)
        cached = real.parent / "__pycache__" / f"{real.stem}.{sys.implementation.cache_tag}.pyc"
        if real.suffix == ".py" and cached.is_file():
            yield from _placed(cached, cached)
        if path != real:
            yield from _placed(path, real)
        if ".so" in real.name:  # by the names under which others look for it
            for other in real.parent.glob(f"{real.name.split('.so')[0]}.so*"):
                if other.is_symlink() and other.resolve() == real:
                    yield _name(other), cpio.symlink(_name(other), real.name)


def _placed(place: Path, source: Path) -> Iterator[tuple[str, cpio.Entry]]:
    mode = stat.S_IMODE(source.stat().st_mode) & 0o755
    yield _name(place), cpio.file(_name(place), source.read_bytes(), mode)


def _name(path: Path) -> str:
    """Below a merged /usr: a link in the image must not be a directory as well."""
    parts = path.parts[1:]
    if parts[0] in _LINKS and (Path("/") / parts[0]).is_symlink():
        parts = ("usr", *parts)
    return "/".join(parts)


def _with_parents(entries: dict[str, cpio.Entry]) -> Iterator[cpio.Entry]:
    made: set[str] = set()
    for name in sorted(entries):
        for parent in reversed(Path(name).parents):
            if str(parent) != "." and str(parent) not in made and str(parent) not in entries:
                made.add(str(parent))
                yield cpio.directory(str(parent))
        yield entries[name]
