"""dom0 of a real Xen loads the bundle that its key vouches for, and no other; it says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.lab.conftest import EXAMPLES, guests, sealed_for
from tests.signing import STRANGER, sealed

pytestmark = pytest.mark.lab

OTHER = "/run/other.shype"


def answer(lab: Lab, *words: str) -> tuple[int, str]:
    """Exit code and error id (empty: none) of `shype` in dom0."""
    done = lab.run(["shype", *words, "--json"], timeout=300)
    return done.code, str(json.loads(done.out).get("error", ""))


def built(directory: Path, version: str, *, target: str = "xen-4.17", source: str = "x") -> Path:
    """Another version of examples/banks.yaml, unpacked."""
    policy = replace(load(EXAMPLES / "banks.yaml").policy, version=version, source=source)
    out = directory / f"{version}-{target}"
    build(policy, target=target, out=out, validate=False)
    return out


def test_dom0_refuses_and_says_why(empty_lab: Lab, bundle: Path, tmp_path: Path) -> None:
    lab = empty_lab
    assert answer(lab, "status") == (0, "")
    altered = bytearray(sealed_for(lab, bundle))
    assert altered[300:304] != b"AAAA"
    altered[300:304] = b"AAAA"
    bad = {
        "bundle.unsigned": sealed(bundle),
        "bundle.unknown-key": sealed(bundle, STRANGER),
        "bundle.altered": bytes(altered),
        "bundle.corrupt": sealed_for(lab, bundle)[:-200],
        "bundle.older": sealed_for(lab, built(tmp_path, "0.9")),
        "bundle.version-reused": sealed_for(lab, built(tmp_path, "1.0")),
        "bundle.wrong-target": sealed_for(lab, built(tmp_path, "2.0", target="xen-4.18")),
    }
    for id, data in bad.items():
        lab.put(OTHER, data)
        assert answer(lab, "run", "--bundle", OTHER, "/etc/xen/vms/a-db.cfg") == (2, id)
    assert answer(lab, "status", "--bundle", "/run/none") == (2, "bundle.missing")
    assert answer(lab, "status", "--bundle", "/etc/shype") == (2, "bundle.unsigned")
    assert guests(lab) == {}
    lab.put(OTHER, sealed_for(lab, bundle))
    assert answer(lab, "run", "--bundle", OTHER, "/etc/xen/vms/a-db.cfg") == (0, "")
    assert list(guests(lab)) == ["a-db"]


def test_a_bundle_that_was_copied_too_early_can_be_taken_back(
    empty_lab: Lab, tmp_path: Path
) -> None:
    empty_lab.put(OTHER, sealed_for(empty_lab, built(tmp_path, "2.0")))
    assert answer(empty_lab, "run", "--bundle", OTHER, "/etc/xen/vms/a-db.cfg") == (
        3, "host.wrong-policy")
    assert answer(empty_lab, "status") == (0, "")
    record = json.loads(empty_lab.get("/var/lib/shype/accepted.json"))
    assert record["policies"]["banks"]["version"] == "1.0"


def test_keys_that_others_may_write_are_not_trusted(empty_lab: Lab) -> None:
    empty_lab.sh("rm -rf /run/keys; cp -r /etc/shype/keys /run/keys; chmod 777 /run/keys")
    assert answer(empty_lab, "status", "--keys", "/run/keys") == (2, "key.unsafe")
    empty_lab.sh("chmod 755 /run/keys; rm /run/keys/*")
    assert answer(empty_lab, "status", "--keys", "/run/keys") == (2, "key.none")
