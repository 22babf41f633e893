"""A domain of its own has dom0's right to set booleans: root in dom0 has it no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.ed25519 import PrivateKey
from shype.policy.loader import load
from shype.policy.signed import seal
from tests.lab.conftest import STILL, boolean, guests
from tests.lab.test_apply import apply, compiled
from tests.lab.test_faults import shype

pytestmark = pytest.mark.lab

POLICY = """\
shype: 1
policy: {name: managed, version: "1.0"}
coalitions: [red, blue]
walls: {sides: [left, right]}
labels:
  boss: {coalitions: all}
  keeper: {locked: true}
  vault: {coalitions: [red], wall: [left], locked: true}
  plain: {coalitions: [red]}
  rival: {coalitions: [blue], wall: [right]}
host: {dom0: boss, manager: keeper, updates: live}
vms: {vault: vault, plain: plain, rival: rival}
"""


def module(built: builder.Built) -> Path:
    """The kernel's xen-privcmd, which the lab's dom0 has no file of."""
    return built.vmlinux.parent / "modules/xen-privcmd.ko"


def start_manager(lab: Lab, *more: str) -> None:
    """Make its image and start it, as an administrator does; ``more`` options of the image."""
    done = lab.run(
        ["shype", "manager", "image", "--module", "/opt/xen-privcmd.ko", *more], timeout=300)
    assert done.code == 0, done.out + done.err
    done = lab.run(["shype", "manager", "start", "--kernel", "/guest/vmlinux"], timeout=400)
    log = lab.sh("tail -c 3000 /var/log/xen/console/guest-shype-manager.log").out
    assert done.code == 0, done.out + done.err + log


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    place = tmp_path_factory.mktemp("managed")
    (place / "p.yaml").write_text(POLICY)
    build(load(place / "p.yaml").policy, target="xen-4.17", out=place / "bundle")
    files = {"/opt/xen-privcmd.ko": module(lab_built).read_bytes()}
    with Lab.up(bundle=place / "bundle", files=files, loaded=True) as lab:
        for name in ("vault", "plain", "rival"):
            lab.put(f"/run/{name}.cfg", config(name, type="pv", extra=STILL))
        yield lab


def test_nothing_starts_without_it(lab: Lab) -> None:
    answer = shype(lab, "run", "/run/plain.cfg")
    assert (answer.code, answer.error) == (3, "manager.absent")
    assert guests(lab) == {}


def test_it_is_made_and_started(lab: Lab) -> None:
    # An image of the version before: it is started with the host's bundle as it is now.
    key = PrivateKey.from_pem(lab.key.read_bytes(), str(lab.key))
    lab.put("/run/before.shype", seal(compiled(POLICY.replace('"1.0"', '"0.9"')), [key]))
    start_manager(lab, "--bundle", "/run/before.shype", "--state", "/run/before")
    done = lab.run(["shype", "manager", "status", "--json"], timeout=100)
    assert json.loads(done.out)["answer"]["version"] == "1.0", done.out
    assert not boolean(lab, "boot_manager")


def test_vms_start_through_it(lab: Lab) -> None:
    answer = shype(lab, "run", "/run/vault.cfg")
    assert answer.code == 0, answer.value
    assert not boolean(lab, "win_en")
    assert boolean(lab, "run_left")
    assert shype(lab, "run", "/run/rival.cfg").denial == ("wall.conflict", ["vault"])
    assert shype(lab, "stop", "--force", "vault").code == 0
    assert not boolean(lab, "run_left")
    assert shype(lab, "run", "/run/rival.cfg").code == 0


def successor(number: int, text: str = POLICY) -> str:
    """``text`` as the version after ``number`` - 1."""
    return text.replace('version: "1.0"', f'version: "1.{number}", from: "1.{number - 1}"')


def manager(lab: Lab) -> dict[str, object]:
    """What the manager says of itself."""
    found = json.loads(lab.run(["shype", "manager", "status", "--json"], timeout=100).out)
    assert found["answers"], found
    answer = found["answer"]
    assert isinstance(answer, dict)
    return answer


def test_a_policy_is_applied_through_it(lab: Lab) -> None:
    new = successor(1).replace("plain: {", "simple: {was: plain, ").replace(
        "plain: plain", "plain: simple")
    said = apply(lab, compiled(new))
    assert said.code == 0, said.value
    assert manager(lab)["version"] == "1.1"
    assert manager(lab)["before"] is None, "there is no way back"
    assert shype(lab, "status").code == 0
    assert not boolean(lab, "load_open")
    assert shype(lab, "stop", "--force", "rival").code == 0
    assert shype(lab, "run", "/run/plain.cfg").code == 0
    assert guests(lab)["plain"] == "u:r:l_simple_t:s0"
