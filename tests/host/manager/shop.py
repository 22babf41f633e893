"""A modelled host whose booleans and policy are set by an authority behind a terminal."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from shype.base.errors import ShypeError, Unavailable
from shype.compile.flask.build import make
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.drivers.xen.listing import Listed
from shype.host.launch import launch
from shype.host.manager.authority import Authority
from shype.host.manager.link import Link
from shype.host.manager.managed import Managed
from shype.host.manager.succession import Succession, renamed
from shype.host.update import staged
from shype.host.update.staged import Staged
from shype.policy.contents import Contents
from shype.policy.manifest import BOOT_MANAGER, Bundle
from shype.policy.signed import seal
from tests.analysis.policies import policy
from tests.host.builders import config
from tests.host.update import shop
from tests.signing import AUTHOR, TRUSTED, keys


def managed(text: str) -> str:
    """The same policy with a manager."""
    return text.replace("labels:\n", "labels:\n  keeper: {locked: true}\n").replace(
        "{dom0: host,", "{dom0: host, manager: keeper,")


class ManagedModel(ModelHypervisor):
    """dom0's side: what is the monitor's it asks for. ``terminal`` is a file with its name."""

    def __init__(self, bundle: Bundle, place: Path) -> None:
        super().__init__(bundle, place / "model.json")
        self._managed = Managed(
            Link(lambda: _named(place / "terminal"), place / "state"),
            ModelHypervisor(bundle, place / "model.json"), bundle.manifest)

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        self._managed.set_booleans(values)

    def load(self, what: Staged, also: Mapping[str, str]) -> None:
        self._managed.load(what, also)

    def confirm(self) -> None:
        self._managed.confirm()


def _named(file: Path) -> Path:
    if not file.exists():
        raise Unavailable("manager.silent", "it is gone")
    return Path(file.read_text())


class Monitor:
    """The manager's side: the model by the policy that it has."""

    def __init__(self, file: Path, known: Sequence[Staged]) -> None:
        self._file, self._known = file, known
        self._now = known[0]

    @property
    def _model(self) -> ModelHypervisor:
        return ModelHypervisor(self._now.bundle, self._file)

    def target(self) -> str:
        return self._model.target()

    def boolean(self, name: str) -> bool | None:
        return self._model.boolean(name)

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        self._model.set_booleans({n: v for n, v in values.items() if n != BOOT_MANAGER})

    def listed(self) -> Sequence[Listed]:
        return [Listed(d.domid, d.context, d.dying) for d in self._model.domains()]

    def load(self, policy: bytes) -> None:
        what = next((one for one in self._known if one.binary == policy), self._known[0])
        also = {} if what.binary == policy else renamed(what.bundle, self._now.bundle)
        self._model.load(what, also)
        self._now = what

    def print_grants(self) -> None:
        """The model tells by itself."""


class Shop(shop.Shop):
    """As the other, with compiled policies, and an authority that `running` runs."""

    def __init__(self, place: Path, new: str) -> None:
        self.place, self.now = place, 0.0
        self.file, self.new = place / "policy.shype", place / "new.shype"
        self.file.write_bytes(seal(_compiled(managed(shop.OLD)), [AUTHOR]))
        self.new.write_bytes(seal(_compiled(managed(new)), [AUTHOR]))
        trusted = keys(place / "keys")
        self._known = [staged.read(file, trusted) for file in (self.file, self.new)]
        old = self._known[0].bundle
        self.agent = Agent(old, ModelHypervisor(old, place / "model.json"), place / "state")
        for vm in shop.VMS:
            assert launch(self.agent, config(place, vm)).domid is not None

    def driver(self, of: Bundle) -> ManagedModel:
        return ManagedModel(of, self.place)

    @contextmanager
    def running(self) -> Iterator[Authority]:
        """The manager runs and answers; afterwards its terminal is gone."""
        authority = Authority(
            Succession(self._known[0], TRUSTED, {}),
            Monitor(self.place / "model.json", self._known), clock=lambda: self.now)
        authority.begin()
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        (self.place / "terminal").write_text(os.ttyname(theirs))
        over = threading.Event()
        thread = threading.Thread(target=_answer, args=(authority, ours, over), daemon=True)
        thread.start()
        try:
            yield authority
        finally:
            (self.place / "terminal").unlink(missing_ok=True)
            over.set()
            thread.join(10)
            os.close(theirs)
            os.close(ours)


def _answer(authority: Authority, console: int, over: threading.Event) -> None:
    heard = b""
    while not over.is_set():
        try:
            authority.tick()
        except ShypeError:
            continue
        if not select.select([console], [], [], 0.02)[0]:
            continue
        *lines, heard = (heard + os.read(console, 65536)).split(b"\n")
        for line in filter(None, lines):
            answer = authority.handle(line) + b"\n"
            while answer:
                answer = answer[os.write(console, answer):]


def _compiled(text: str) -> Contents:
    return make(policy(text), target="xen-4.17")[1]
