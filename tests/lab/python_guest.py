"""Runs in dom0: puts dom0's own Python, and some programs, into a RAM disk for guests.

``python3 -c PROGRAM OUT [MODULE...] FILE...``: OUT is /guest/initrd and, behind it, an archive with
Python's interpreter, the parts of its library that object managers need and every MODULE, with
all that they have loaded (of shype, of Debian's packages; libraries), every FILE (/...) in /app,
and a /guest-start that runs the one that the kernel's command line has as ``app=NAME``.
"""

from __future__ import annotations

import py_compile
import subprocess
import sys
import tempfile
from pathlib import Path

from shype.base import cpio

NEEDED = ("__future__", "ctypes", "dataclasses", "encodings.ascii", "encodings.utf_8",
          "encodings.latin_1", "enum", "errno", "fcntl", "json", "mmap", "os", "site", "struct",
          "time", "collections.abc")
#: What an interpreter that has loaded them all has loaded.
LIST = """
import sys
sys.path += ["/opt/shype", "/usr/lib/python3/dist-packages"]
for name in sys.argv[1:]:
    if name.endswith(".*"):  # also what its functions import
        place = __import__(name[:-2], fromlist=["any"]).__path__
        for one in __import__("pkgutil").walk_packages(place, name[:-1]):
            __import__(one.name)
    elif ".so" in name:
        __import__("ctypes").CDLL(name)
    else:
        __import__(name)
for module in list(sys.modules.values()):
    print(getattr(module, "__file__", None) or "")
for line in open("/proc/self/maps"):
    print(line.split()[-1])
"""
START = """\
#!/bin/sh
for word in $(cat /proc/cmdline); do
    case $word in
    app=*) /usr/bin/python3 -B -S "/app/${word#app=}" </dev/null >/dev/hvc0 2>&1 & ;;
    esac
done
"""


def loaded(modules: list[str]) -> set[Path]:
    said = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", LIST, *NEEDED, *modules],
                          check=True, capture_output=True, text=True).stdout.split()
    return {Path(word) for word in said if word.startswith("/") and Path(word).is_file()}


def entries(programs: list[Path], modules: list[str]) -> list[cpio.Entry]:
    files: dict[str, tuple[bytes, int]] = {}
    links: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(loaded(modules)):
            if path.suffix == ".py":
                made = f"{scratch}/one.pyc"
                py_compile.compile(str(path), cfile=made, dfile=path.name, doraise=True)
                files[f"{path}c"] = Path(made).read_bytes(), 0o644
            else:
                # a library is looked for by the name of its interface, which is a link to it
                files[str(path)] = path.read_bytes(), 0o755
                for link in path.parent.glob(f"{path.name.partition('.so')[0]}.so*"):
                    if link.is_symlink() and link.resolve() == path.resolve() != link:
                        links[str(link)] = path.name
    files["/usr/bin/python3"] = Path("/usr/bin/python3").resolve().read_bytes(), 0o755
    for name in [name for name in files if name.startswith("/usr/bin/python3.")]:
        del files[name]
    for program in programs:
        files[f"/app/{program.name}"] = program.read_bytes(), 0o644
    files["/guest-start"] = START.encode(), 0o755
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    files[str(loader)] = loader.resolve().read_bytes(), 0o755
    folders = sorted({str(parent)[1:] for name in files for parent in Path(name).parents} - {""})
    return [*map(cpio.directory, folders),
            *(cpio.file(name[1:], data, mode) for name, (data, mode) in files.items()),
            *(cpio.symlink(name[1:], to) for name, to in links.items() if name not in files)]


def main() -> None:
    out, *words = sys.argv[1:]
    modules = [word for word in words if not word.startswith("/")]
    programs = [Path(word) for word in words if word.startswith("/")]
    base = Path("/guest/initrd").read_bytes()
    made = Path(out)
    made.write_bytes(base + cpio.archive(entries(programs, modules)))
    sys.stdout.write(f"{len(base)} {made.stat().st_size}\n")


if __name__ == "__main__":
    main()
