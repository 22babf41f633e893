"""One boot by GRUB, gone through without it: every event that its module ``tpm`` measures.

What is measured, and when, is as observed with GRUB 2.06 (Debian 2.06-13+deb12u2) on UEFI, in the
firmware's own event log: each command before it runs, its words joined by blanks, into PCR 8; a
kernel's or module's arguments into PCR 8, after its file; each file that is read into PCR 9.
Not measured: what is in GRUB's image itself (PCR 4 has its digest), files that are only looked
for, and the writing of the environment block.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shype.attest.event_log import SHA256, Event, EventType
from shype.attest.grub import environment, image
from shype.attest.grub.script import Command, Function, If, Script, Word, parse
from shype.base.errors import BadInput

#: Registers of GRUB's commands and files (GRUB manual, "Measured boot").
COMMANDS, FILES = 8, 9
#: GRUB's own variables, on 64-bit UEFI.
_ENVIRONMENT = {
    "grub_platform": "efi", "grub_cpu": "x86_64", "feature_menuentry_id": "y",
    "feature_menuentry_options": "y", "feature_timeout_style": "y", "feature_nativedisk_cmd": "y",
    "feature_all_video_module": "y", "feature_default_font_path": "y",
    "feature_platform_search_hint": "y", "feature_200_final": "y", "feature_chainloader_bpb": "y",
    "feature_ntldr": "y", "pager": "",
}
#: Commands without an effect on what is measured.
_IDLE = frozenset((
    "export", "echo", "clear", "serial", "terminal_output", "terminal_input", "true", "set",
    "setparams", "submenu"))
#: Most commands of one boot: more is an endless loop of functions.
_LIMIT = 10_000
#: Lists that GRUB's normal mode reads from beside its modules, if they are there, in this order.
_LISTS = ("command.lst", "fs.lst", "crypto.lst", "terminal.lst")


@dataclass(frozen=True, slots=True)
class Disk:
    """What GRUB sees: its name for the partition (``hd0,gpt2``), where its own directory is there
    (``/grub``), the partition's UUID (for ``search``), and the files by path.

    ``modules``: those in GRUB's image; others are read from the disk. ``normal``: GRUB came to its
    menu by itself, as grub-install sets it up, and not by a command ``configfile`` of its image:
    then it also reads lists beside the modules.
    """

    device: str
    prefix: str
    read: Callable[[str], bytes | None]
    modules: frozenset[str] = frozenset()
    normal: bool = False


@dataclass(slots=True)
class _Entry:
    title: str
    id: str
    body: Script


def boot(disk: Disk) -> tuple[Event, ...]:
    """What is extended into PCR 8 and 9 when ``disk`` is booted and nobody touches the menu.

    Raises BadInput (``reference.grub-script``, ``reference.no-file``, ``boot.env``).
    """
    prefix = f"({disk.device}){disk.prefix}"
    grub = _Grub(disk, {
        **_ENVIRONMENT, "prefix": prefix, "root": disk.device, "config_directory": prefix,
        "config_file": f"{prefix}/grub.cfg"})
    if disk.normal:
        grub.lists()
    grub.source(f"{prefix}/grub.cfg")
    chosen = grub.chosen()
    grub.variables["chosen"] = chosen.id
    grub.measure("grub_cmd: ", f"setparams {chosen.title}")
    grub.run(chosen.body)
    return tuple(grub.events)


@dataclass(slots=True)
class _Grub:
    disk: Disk
    variables: dict[str, str]
    events: list[Event] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    functions: dict[str, Script] = field(default_factory=dict)
    #: Files as changed in this boot.
    written: dict[str, bytes] = field(default_factory=dict)
    where: str = "grub.cfg"
    commands: int = 0
    loaded: set[str] = field(default_factory=set)
    #: Modules of commands that are not there yet (command.lst).
    providers: dict[str, str] = field(default_factory=dict)

    def unknown(self, problem: str) -> BadInput:
        return BadInput("reference.grub-script", f"{self.where}: {problem}",
                        "what GRUB would do here is not predicted; leave it out "
                        "(for Debian: GRUB_TERMINAL=console in /etc/default/grub)")

    # -- files and measurements

    def path(self, path: str) -> str:
        """The path on the partition. Paths without a device are on ``root``."""
        device, name = self.variables["root"], path
        if path.startswith("("):
            device, _, name = path[1:].partition(")")
        if device != self.disk.device or not name.startswith("/"):
            raise self.unknown(f"{path} is on another disk")
        return name

    def find(self, path: str) -> bytes | None:
        name = self.path(path)
        return self.written.get(name) or self.disk.read(name)

    def file(self, path: str) -> bytes:
        """Read a file, and measure it. Raises BadInput (``reference.no-file``)."""
        data = self.find(path)
        if data is None:
            raise BadInput("reference.no-file", f"GRUB would read {path}, which is not there",
                           "give the directory as it is on the host (--boot-dir)")
        self.events.append(_event(FILES, data, path))
        return data

    def measure(self, prefix: str, text: str) -> None:
        data = text.encode("utf-8", "surrogateescape")
        self.events.append(_event(COMMANDS, data, prefix + text))

    def source(self, path: str) -> None:
        before, self.where = self.where, path
        self.run(parse(self.file(path).decode("utf-8", "surrogateescape"), path))
        self.where = before

    # -- the language

    def run(self, script: Script) -> bool:
        done = True
        for statement in script:
            match statement:
                case Command():
                    done = self.command(statement)
                case If():
                    done = self.condition(statement)
                case Function(name, body):
                    self.functions[name] = body
                    done = True
        return done

    def condition(self, statement: If) -> bool:
        for asked, body in statement.branches:
            if self.run(asked):
                return self.run(body)
        return self.run(statement.otherwise)

    def value(self, name: str) -> str:
        if name == "?":
            raise self.unknown("$? is used")
        return self.variables.get(name, "")

    def expanded(self, words: tuple[Word, ...]) -> list[str]:
        return [text for word in words for text in word.expand(self.value)]

    def command(self, command: Command) -> bool:
        self.commands += 1
        if self.commands > _LIMIT:
            raise self.unknown("it does not end")
        words = self.expanded(command.words)
        if not words:
            return True
        shown = words if command.block is None else [*words, command.block]
        self.measure("grub_cmd: ", " ".join(shown))
        name, rest = words[0], words[1:]
        if name in self.functions:
            return self.run(self.functions[name])
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", name, re.DOTALL) and not rest:
            return self.assign(name)
        self.provide(name)
        if name in _IDLE:
            return self.idle(name, rest)
        handler = _HANDLERS.get(name)
        if handler is None:
            raise self.unknown(f"line {command.line}: the command `{name}`")
        return handler(self, rest, command)

    def idle(self, name: str, rest: list[str]) -> bool:
        if name == "set":
            for word in rest:
                self.assign(word)
        if name == "submenu":
            self.entries.append(_Entry("", "", ()))  # counts, and is not booted by default
        return True

    def assign(self, word: str) -> bool:
        name, _, value = word.partition("=")
        self.variables[name] = value
        return True

    def test(self, rest: list[str], command: Command) -> bool:
        if command.words[0].expand(self.value) == ["["]:
            if not rest or rest[-1] != "]":
                raise self.unknown("`[` without `]`")
            rest = rest[:-1]
        return any(all(self.asked(part) for part in _split(each, "-a"))
                   for each in _split(rest, "-o"))

    def asked(self, words: list[str]) -> bool:
        match words:
            case ["!", *rest]:
                return not self.asked(rest)
            case [word]:
                return word != ""
            case ["-n", word]:
                return word != ""
            case ["-z", word]:
                return word == ""
            case ["-f" | "-e", path]:
                return self.find(path) is not None
            case ["-s", path]:
                return bool(self.find(path))
            case [left, "=" | "==", right]:
                return left == right
            case [left, "!=", right]:
                return left != right
        raise self.unknown(f"the test {' '.join(words)}")

    def insmod(self, rest: list[str], command: Command) -> bool:
        return self.load(rest[0]) if rest else False

    # -- modules

    def lists(self) -> None:
        """What GRUB's normal mode reads before its configuration."""
        for name in _LISTS:
            path = f"{self.variables['prefix']}/x86_64-efi/{name}"
            if self.find(path) is not None:
                data = self.file(path)
                if name == "command.lst":
                    self.providers = _providers(data.decode("ascii", "replace"))

    def load(self, name: str) -> bool:
        """Have a module, from the disk if it is not there yet, and what it needs after it."""
        if name in self.disk.modules or name in self.loaded:
            return True
        path = f"{self.variables['prefix']}/x86_64-efi/{name}.mod"
        if self.find(path) is None:
            return False
        data = self.file(path)
        try:
            _, needed = image.module(data)
        except (ValueError, IndexError, struct.error) as error:
            raise self.unknown(f"{path} is no module: {error}") from error
        self.loaded.add(name)
        for other in needed:
            self.load(other)
        return True

    def provide(self, command: str) -> None:
        """Load the module of a command that is not built in, when it is first used."""
        if command in self.providers:
            self.load(self.providers[command])

    def regexp(self, rest: list[str], command: Command) -> bool:
        match rest:
            case [option, pattern, text] if (found := re.fullmatch(r"--set=1:(\w+)", option)):
                # As a POSIX pattern, this means the same in Python's language.
                if pattern != r"^\(([^)]*)\)":
                    raise self.unknown(f"line {command.line}: the pattern {pattern}")
                matched = re.search(pattern, text)
                if matched is not None:
                    self.variables[found[1]] = matched[1]
                return matched is not None
        raise self.unknown(f"line {command.line}: these words of regexp")

    def search(self, rest: list[str], command: Command) -> bool:
        plain = [word for word in rest if word != "--no-floppy" and not word.startswith("--hint")]
        match plain:
            case ["--fs-uuid", option, _] if option.startswith("--set="):
                self.variables[option.removeprefix("--set=")] = self.disk.device
                return True
        raise self.unknown(f"line {command.line}: these words of search")

    def block_file(self, rest: list[str]) -> tuple[str, list[str]]:
        match rest:
            case ["--file" | "-f", path, *names]:
                return path, names
        return f"{self.variables['prefix']}/grubenv", rest

    def load_env(self, rest: list[str], command: Command) -> bool:
        path, names = self.block_file(rest)
        if not names:
            raise self.unknown(f"line {command.line}: load_env without the names of variables")
        if self.find(path) is None:
            return False
        block = self.file(path)
        for name in names:
            found = environment.value(block, name)
            if found is not None:
                self.variables[name] = found
        return True

    def save_env(self, rest: list[str], command: Command) -> bool:
        path, names = self.block_file(rest)
        block = self.find(path)
        if block is None:
            return False
        for name in names:
            if name in self.variables:
                block = environment.changed(block, name, self.variables[name])
        self.written[self.path(path)] = block
        return True

    def read_script(self, rest: list[str], command: Command) -> bool:
        if len(rest) != 1:
            raise self.unknown(f"line {command.line}: source with {len(rest)} words")
        self.source(rest[0])
        return True

    # -- the menu

    def menuentry(self, rest: list[str], command: Command) -> bool:
        if command.block is None or not rest:
            raise self.unknown(f"line {command.line}: a menu entry without a block")
        title, name, words = rest[0], "", rest[1:]
        while words:
            match words:
                case ["--id", value, *words]:
                    name = value
                case ["--class" | "--users" | "--hotkey", _, *words]:
                    pass
                case ["--unrestricted", *words]:
                    pass
                case [value, *words]:  # further arguments, $menuentry_id_option's among them
                    raise self.unknown(f"line {command.line}: the menu entry's word {value}")
        body = parse(command.block.strip()[1:-1], f"{self.where} (entry {title})")
        self.entries.append(_Entry(title, name or title, body))
        return True

    def chosen(self) -> _Entry:
        """The entry that is booted if nobody chooses."""
        wanted = self.variables.get("default", "0") or "0"
        for number, entry in enumerate(self.entries):
            named = wanted.isdigit() and int(wanted) == number
            if (named or wanted in (entry.title, entry.id)) and entry.title:
                return entry
        raise self.unknown(f"no entry {wanted!r}, which is the default")

    def loader(self, rest: list[str], command: Command) -> bool:
        """``multiboot2`` and ``module2``: a file, then its arguments."""
        kernel = command.words[0].expand(self.value) == ["multiboot2"]
        words = [word for word in rest if word not in ("--nounzip", "--quirk-bad-kludge")]
        if not words:
            raise self.unknown(f"line {command.line}: no file to load")
        self.file(words[0])
        self.measure("kernel_cmdline: " if kernel else "module_cmdline: ", _arguments(words[1:]))
        return True


_HANDLERS: Mapping[str, Callable[[_Grub, list[str], Command], bool]] = {
    "[": _Grub.test, "test": _Grub.test, "insmod": _Grub.insmod, "regexp": _Grub.regexp,
    "search": _Grub.search, "load_env": _Grub.load_env, "save_env": _Grub.save_env,
    "source": _Grub.read_script, ".": _Grub.read_script, "menuentry": _Grub.menuentry,
    "multiboot2": _Grub.loader, "module2": _Grub.loader,
    "false": lambda grub, rest, command: False,
}


def _arguments(words: list[str]) -> str:
    """A command line as GRUB writes it: quotes and backslashes are escaped, blanks quoted."""
    return " ".join(
        f'"{escaped}"' if " " in word else escaped
        for word in words for escaped in [re.sub(r"([\"'\\])", r"\\\1", word)])


def _providers(text: str) -> dict[str, str]:
    """The lines of command.lst: ``[*]COMMAND: MODULE``; ``*``: extended, may be of several."""
    rows = (line.lstrip("*").partition(":") for line in text.splitlines())
    return {name.strip(): module.strip() for name, _, module in rows if module.strip()}


def _split(words: list[str], at: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == at:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _event(pcr: int, data: bytes, description: str) -> Event:
    return Event(pcr, EventType.IPL, ((SHA256, hashlib.sha256(data).digest()),),
                 description.encode("utf-8", "surrogateescape") + b"\0")
