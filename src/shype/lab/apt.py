"""A private view of the machine's own package sources.

The machine's entries for the lab's Debian release are taken with their
options (Signed-By and so on), with source packages switched on, into a
configuration whose lists and caches are ours: the machine's apt state is
neither used nor touched, while its proxies, credentials and preferences hold.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shype.base import child
from shype.base.errors import ShypeError, Unavailable
from shype.lab import recipe

#: One-line options and the deb822 fields that mean the same (sources.list(5)).
_FIELD = {
    "signed-by": "Signed-By", "arch": "Architectures", "trusted": "Trusted",
    "check-valid-until": "Check-Valid-Until", "check-date": "Check-Date",
    "allow-insecure": "Allow-Insecure", "by-hash": "By-Hash", "pdiffs": "PDiffs",
    "inrelease-path": "InRelease-Path",
}
_LINE = re.compile(r"^\s*deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<rest>.*)$")


@dataclass(frozen=True, slots=True)
class Source:
    """One entry: deb822 fields, ``Types`` left out."""

    fields: tuple[tuple[str, str], ...]

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites it names."""
        return tuple(dict(self.fields).get("Suites", "").split())

    def stanza(self, types: str) -> str:
        """The entry in deb822 form for packages of these ``types``."""
        return f"Types: {types}\n" + "".join(f"{k}: {v}\n" for k, v in self.fields)


def parse_list(text: str) -> Iterator[Source]:
    """Entries of a one-line ``sources.list``."""
    for line in text.splitlines():
        found = _LINE.match(line.split("#", 1)[0].rstrip())
        words = found["rest"].split() if found else []
        if not found or len(words) < 2:
            continue
        fields = [("URIs", words[0]), ("Suites", words[1])]
        if words[2:]:
            fields.append(("Components", " ".join(words[2:])))
        for option in (found["options"] or "").split():
            key, _, value = option.partition("=")
            name = _FIELD.get(key.lower())
            if name:
                fields.append((name, value.replace(",", " ")))
        yield Source(tuple(fields))


def parse_deb822(text: str) -> Iterator[Source]:
    """Entries of a ``.sources`` file; folded fields (an inline key) stay as they are."""
    for block in re.split(r"\n\s*\n", text):
        fields: list[tuple[str, str]] = []
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and fields:
                key, value = fields[-1]
                fields[-1] = (key, f"{value}\n{line}")
            elif ":" in line:
                key, _, value = line.partition(":")
                fields.append((key.strip(), value.strip()))
        table = {key.lower(): value for key, value in fields}
        if "deb" not in table.get("types", "").split() or table.get("enabled", "yes") == "no":
            continue
        names = {"uris": "URIs", "suites": "Suites"}
        yield Source(tuple(
            (names.get(k.lower(), k), v) for k, v in fields if k.lower() not in ("types", "enabled")
        ))


def machine_sources() -> tuple[Source, ...]:
    """The machine's entries for the lab's release. Raises Unavailable (``lab.no-sources``)."""
    places = _config("Dir::Etc::sourcelist/f", "Dir::Etc::sourceparts/d")
    files = [Path(places[0])] if places[0] else []
    if places[1] and Path(places[1]).is_dir():
        files += sorted(Path(places[1]).iterdir())
    found: list[Source] = []
    for path in files:
        if not path.is_file():
            continue
        if path.suffix == ".sources":
            found += parse_deb822(path.read_text())
        elif path.suffix == ".list":
            found += parse_list(path.read_text())
    release = re.compile(re.escape(recipe.RELEASE) + r"(?:[-/].*)?")
    kept = tuple(s for s in found if any(release.fullmatch(suite) for suite in s.suites))
    if not kept:
        raise Unavailable(
            "lab.no-sources",
            f"this machine has no package source for Debian {recipe.RELEASE}, "
            "which the lab is made of",
            f"add Debian {recipe.RELEASE} (main, updates, security) below /etc/apt/sources.list.d",
        )
    return kept


def _config(*keys: str) -> list[str]:
    """Values of apt's configuration, one per key, empty if not set."""
    out = child.run(["apt-config", "shell", *(w for i, k in enumerate(keys) for w in (f"v{i}", k))])
    values = dict(word.partition("=")[::2] for word in shlex.split(out.out))
    return [values.get(f"v{i}", "") for i in range(len(keys))]


def acquire_options() -> str:
    """The machine's ``Acquire`` settings (proxies, date checks) as lines of an apt.conf."""
    dump = child.run(["apt-config", "dump"]).out
    return "".join(f"{line}\n" for line in dump.splitlines()
                   if line.startswith("Acquire::") and "::IndexTargets" not in line
                   and not line.endswith(' "";'))


@dataclass(frozen=True, slots=True)
class PrivateApt:
    """The private configuration below ``root`` (made by `open`)."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> PrivateApt:
        """Write the configuration; the lists are fetched by `update`."""
        parts = root / "sources"
        for path in (parts, root / "lists" / "partial", root / "cache" / "archives" / "partial"):
            path.mkdir(parents=True, exist_ok=True)
        sources = machine_sources()
        _write(parts / "machine.sources", "\n".join(s.stanza("deb deb-src") for s in sources))
        _write(root / "deb.sources", "\n".join(s.stanza("deb") for s in sources))
        _write(root / "acquire.conf", acquire_options())
        return cls(root)

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """Run an apt program with this configuration; returns what it printed."""
        options = {
            "Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": self.root / "sources",
            "Dir::State::lists": self.root / "lists", "Dir::Cache": self.root / "cache",
            # the sandbox user cannot reach a user's cache directory
            "APT::Sandbox::User": "root", "APT::Get::AutomaticRemove": "false",
        }
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return child.run([words[0], *flags, *words[1:]], cwd=cwd, env={"LC_ALL": "C"}).out

    def update(self) -> None:
        """Fetch the package lists."""
        self.run("apt-get", "-q", "update")

    def versions(self, package: str) -> tuple[str, ...]:
        """All versions of a binary package, the one that apt would install first."""
        out = self.run("apt-cache", "policy", package)
        candidate = re.search(r"Candidate: (\S+)", out)
        table = re.findall(r"^(?: \*\*\*|    ) (\S+) -?\d+$", out, re.M)
        first = [candidate[1]] if candidate and candidate[1] != "(none)" else []
        return tuple(dict.fromkeys([*first, *table]))

    def source_versions(self, package: str) -> tuple[str, ...]:
        """All versions of a source package, newest first."""
        out = self.run("apt-cache", "showsrc", "--only-source", package)
        found = list(dict.fromkeys(re.findall(r"^Version: (\S+)$", out, re.M)))
        newest: list[str] = []
        for version in found:  # insertion by dpkg's order; there are two or three
            place = next((i for i, other in enumerate(newest) if _newer(version, other)),
                         len(newest))
            newest.insert(place, version)
        return tuple(newest)

    def fetch_source(self, package: str, into: Path) -> tuple[str, Path]:
        """Download the newest source that can be had; its version and .dsc file.

        A security release's source is sometimes announced before it can be
        fetched; then the next older version is taken.
        """
        failures: list[str] = []
        for version in self.source_versions(package):
            try:
                self.run("apt-get", "-q", "source", "--download-only", f"{package}={version}",
                         cwd=into)
            except child.ChildFailed as error:
                failures.append(f"{version}: {_reason(error)}")
                for left in into.iterdir():
                    left.unlink()
                continue
            return version, next(into.glob("*.dsc"))
        raise _cannot(f"the source of {package}", failures)

    def fetch_binary(self, package: str, into: Path, versions: tuple[str, ...] = ()) -> Path:
        """Download a binary package (the first of ``versions`` that can be had)."""
        failures: list[str] = []
        for version in versions or self.versions(package):
            try:
                self.run("apt-get", "-q", "download", f"{package}={version}", cwd=into)
            except child.ChildFailed as error:
                failures.append(f"{version}: {_reason(error)}")
                continue
            return next(into.glob(f"{package}_*.deb"))
        raise _cannot(f"the package {package}", failures)


def _newer(a: str, b: str) -> bool:
    return child.run(["dpkg", "--compare-versions", a, "gt", b], check=False).code == 0


def _reason(error: child.ChildFailed) -> str:
    lines = [line for line in error.done.err.splitlines() if line.startswith("E:")]
    return lines[0][3:] if lines else "apt failed"


def _cannot(what: str, failures: list[str]) -> ShypeError:
    detail = "; ".join(failures) or "no version is listed"
    return Unavailable("lab.fetch", f"{what} cannot be fetched: {detail}",
                       "check this machine's package sources and network")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
