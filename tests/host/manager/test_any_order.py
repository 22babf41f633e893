"""Whatever dom0 says to the manager, in whatever order: a small model knows what comes of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from shype.host.manager.authority import OPEN
from shype.host.manager.succession import TRIAL
from tests.host.manager.sovereign import NEW, OLD, World, sealed, staged, world
from tests.host.manager.test_succession import THIRD
from tests.signing import AUTHOR, STRANGER

#: What can be sent, by version; the last is signed by somebody else.
SENT = {"1.0": (OLD, AUTHOR), "1.1": (NEW, AUTHOR), "1.2": (THIRD, AUTHOR), "?": (THIRD, STRANGER)}
VERSIONS = ("1.0", "1.1", "1.2")
ACTIONS = st.sampled_from(
    [*SENT, *(f"confirm {version}" for version in VERSIONS), "back", "open", "close", "nonsense",
     "a minute", "ten minutes"])


@dataclass(frozen=True)
class Model:
    """The version in force and the highest confirmed; what it goes back to, and when what ends."""

    now: str = "1.0"
    highest: str = "1.0"
    before: str | None = None
    open: bool = False
    ends: float = 0.0
    time: float = 0.0

    def after(self, action: str) -> Model:
        busy = self.open or self.before is not None
        word, _, version = action.partition(" ")
        match word:
            case "1.1" | "1.2" if not busy and action > self.highest:
                return replace(self, now=action, before=self.now, ends=self.time + TRIAL)
            case "confirm" if version == self.now:
                return replace(self, before=None, highest=max(self.highest, version))
            case "back" if self.before is not None:
                return replace(self, now=self.before, before=None)
            case "open" if not busy:
                return replace(self, open=True, ends=self.time + OPEN)
            case "close":
                return replace(self, open=False)
            case "a" | "ten":
                return replace(self, time=self.time + (60 if word == "a" else 600)).ticked()
        return self

    def ticked(self) -> Model:
        if self.time < self.ends or not (self.open or self.before):
            return self
        return replace(self, now=self.before or self.now, before=None, open=False)


def act(here: World, action: str, model: Model) -> None:
    word, _, version = action.partition(" ")
    if action in SENT:
        here.send(sealed(*SENT[action]))
    elif word == "confirm":
        here.say("confirm", digest=digest(version))
    elif word in ("open", "close"):
        plain = "plain" if model.now == "1.0" else "simple"
        here.window(plain if word == "open" else None)
    elif word in ("a", "ten"):
        here.now = model.after(action).time
        here.authority.tick()
    else:
        here.say(word, values={"load_open": True})


@functools.cache
def digest(version: str) -> str:
    return staged(sealed(*SENT[version])).bundle.manifest.digest


@settings(deadline=None, max_examples=40)
@given(st.lists(ACTIONS, max_size=14))
def test_any_order(actions: list[str]) -> None:
    here, model = world(), Model()
    for action in actions:
        act(here, action, model)
        model = model.after(action)
        said = here.say("status")
        before = next((v for v in VERSIONS if digest(v) == said["before"]), None)
        assert (said["version"], before, said["open"]) == (model.now, model.before, model.open)
        assert here.xen.values["win_en"] is model.open
        assert not here.xen.values["load_open"]
        assert f"policy_{digest(model.now)}" in here.xen.values
