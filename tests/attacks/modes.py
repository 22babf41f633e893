"""Hosts of an area's policy in the three modes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from shype.compile.flask.build import build
from shype.host.manager.start import NAME
from shype.lab import builder
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.attacks.attack import Mode
from tests.attacks.policies import TOGETHER, joined
from tests.lab.conftest import guests
from tests.lab.states import resumed
from tests.lab.test_manager import module, start_manager

KEEPER = "keeper"


def in_mode(text: str, mode: Mode) -> str:
    """The policy ``text`` as a host of this mode has it.

    Of a locked label one VM runs at a time, so each VM beyond the first gets a copy of its label.
    A policy with a manager is not static, and these are not updated live.
    """
    if mode is Mode.DEFAULT:
        return text
    policy: dict[str, Any] = yaml.safe_load(text)
    labels, host = policy["labels"], policy["host"]
    for name, label in labels.items():
        if name != host["dom0"]:
            label["locked"] = True
    taken: set[str] = set()
    for vm, label in policy["vms"].items():
        if label in taken:
            labels[f"{label}-of-{vm}"] = labels[label]
            policy["vms"][vm] = f"{label}-of-{vm}"
            for vector in policy.get("vectors", {}).values():
                vector += [f"{label}-of-{vm}"] if label in vector else []
        taken.add(label)
    if mode is Mode.MANAGER:
        labels[KEEPER] = {"locked": True}
        if "levels" in policy:
            labels[KEEPER]["level"] = policy["levels"]["order"][0]
        host["manager"] = KEEPER
        host.pop("updates", None)
        policy.pop("static", None)
        policy.pop("vectors", None)
    made: str = yaml.safe_dump(policy, sort_keys=False)
    return made


def vms(lab: Lab) -> list[str]:
    """Who runs, but for dom0 and the manager."""
    return sorted(guests(lab).keys() - {NAME})


def hosted(text: str, mode: Mode) -> str:
    """The policy of the host on which what belongs to the policy ``text`` is tried in this mode.

    A manager takes a minute to start, so one host with one serves several areas.
    """
    return in_mode(joined() if mode is Mode.MANAGER and text in TOGETHER else text, mode)


def compiled(text: str, mode: Mode, place: Path) -> Path:
    """The bundle of `hosted`, in the directory ``place``."""
    out, source = place / mode, place / f"{mode}.yaml"
    source.write_text(hosted(text, mode))
    build(load(source).policy, target="xen-4.17", out=out)
    return out


@contextlib.contextmanager
def up(
    text: str, mode: Mode, place: Path, files: Mapping[str, bytes | str] | None = None,
) -> Iterator[Lab]:
    """A host with that policy (`hosted`), and these files in dom0; its manager runs."""
    policy = hosted(text, mode)

    def begun() -> Lab:
        if mode is not Mode.MANAGER:
            return Lab.up(bundle=compiled(text, mode, place), loaded=True)
        if text in TOGETHER:
            return resumed("attacks-manager", [policy], lambda: managed(policy, place))
        return managed(policy, place)

    with begun() as lab:
        for name, data in (files or {}).items():
            lab.put(name, data)
        yield lab


def managed(text: str, place: Path) -> Lab:
    """A host with exactly that policy, whose manager has been started."""
    bundle, source = place / "managed", place / "managed.yaml"
    source.write_text(text)
    build(load(source).policy, target="xen-4.17", out=bundle)
    lab = Lab.up(bundle=bundle, loaded=True,
                 files={"/opt/xen-privcmd.ko": module(builder.load()).read_bytes()})
    try:
        start_manager(lab)
    except BaseException:
        lab.down()
        raise
    return lab
