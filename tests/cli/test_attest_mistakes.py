"""`shype attest`, typed wrongly: what is told is what was wrong, and how to do it right."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from shype.attest import boot_reference, event_log
from shype.attest.tpm import TCTI_VARIABLE
from shype.base import files
from shype.cli import attest, attest_host, keys
from shype.policy.ed25519 import PrivateKey
from tests.attest.software_tpm import SoftwareTpm
from tests.cli.on_model import run
from tests.cli.test_attest import PACKAGE, Say, booted, enrolled, published, serving
from tests.cli.test_attest import place as place
from tests.cli.test_attest import say as say
from tests.host.builders import BANKS, bundle
from tests.signing import AUTHOR, sealed

EK = "ab" * 32
SIGN = ("--bundle", "policy.shype", "--keys", "keys", "--boot", "banks.boots", "--firmware",
        "server.firmware", "--agent", PACKAGE, "--key", "author.key")


def _firmware(place: Path) -> None:
    (place / "server.firmware").write_text(
        '{"firmware":"server","pcrs":{' + ",".join(f'"{pcr}":"{"00" * 32}"' for pcr in (0, 7))
        + "}}\n")


def refused(said: tuple[int, str], code: int, id: str, *words: str) -> str:
    """The answer is this error, and has these words."""
    found, text = said
    assert (found, f"[{id}]" in text) == (code, True), text
    for word in words:
        assert word in text, text
    return text


# The event log


def test_a_log_that_was_named_must_be_one(place: Path, say: Say) -> None:
    enrolled(say, place)
    assert say("challenge", "xen1", "--observe", "-o", "c.json")[0] == 0
    quote = ("quote", "--challenge", "c.json", "-o", "e.json")
    refused(say(*quote), 2, "attest.file", "state/attest/run/event-log")
    (place / "state/attest/run").mkdir(parents=True, exist_ok=True)
    (place / "state/attest/run/event-log").write_text("no log")
    refused(say(*quote), 2, "event-log.corrupt", "state/attest/run/event-log")
    assert not (place / "e.json").exists()
    for name, id in (("none", "attest.file"), ("author.pub", "event-log.corrupt")):
        refused(say("renew", "--log", name, "--verifier", "http://127.0.0.1:1"), 2, id, name)


def test_a_host_that_has_measured_nothing_is_told_so(
    place: Path, say: Say, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(say, place)
    monkeypatch.setattr(attest_host, "_LOG", place / "nothing")
    assert say("challenge", "xen1", "--observe", "-o", "c.json")[0] == 0
    quote = ("attest", "quote", "--state", "state/attest", "--challenge", "c.json", "-o", "e.json")
    capsys.readouterr()
    assert run([attest.add], quote) == 0
    said = capsys.readouterr()
    assert "nothing was measured" in said.err
    assert str(place / "nothing") in said.err
    assert run([attest.add], [*quote, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"] is False
    booted_log = place / "state/attest/run/event-log"
    monkeypatch.setattr(attest_host, "_LOG", booted_log)
    booted_log.parent.mkdir(parents=True, exist_ok=True)
    booted_log.write_bytes(event_log.header())
    assert run([attest.add], [*quote, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["measured"] is True
    assert said.err == ""


def test_a_host_that_has_lost_its_log_is_told_so_when_it_asks(
    place: Path, say: Say, own_tpm: SoftwareTpm
) -> None:
    """The verifier can only say that the log does not amount to the register."""
    enrolled(say, place)
    booted(place, own_tpm)
    published(say, place)
    with serving(place) as url:
        code, text = say("renew", "--verifier", url, "--json")
        assert code == 0, text
        assert '"measured": true' in text
        (place / "state/attest/run/event-log").unlink()
        code, text = say("renew", "--verifier", url)
        assert (code, "[log.register]" in text, "nothing was measured" in text) == (1, True, True)
        assert '"measured": false' in say("renew", "--verifier", url, "--json")[1]


# Keys


def test_a_key_given_to_init_is_the_verifier_s(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = PrivateKey.generate()
    (place / "mine.key").write_bytes(key.pem())
    (place / "mine.key").chmod(0o600)
    init = ["attest", "init", "--signer", "author.pub", "--state", "other", "--key", "mine.key"]
    assert run([attest.add], init) == 0
    assert key.public.id in capsys.readouterr().out
    assert (place / "other/verifier.key").read_bytes() == key.pem()
    assert (place / "other/verifier.key").stat().st_mode & 0o777 == 0o600
    assert (place / "other/verifier.pub").read_bytes() == key.public.pem()
    assert (place / "mine.key").exists()
    assert run([attest.add], init) == 2
    assert "[verifier.exists]" in capsys.readouterr().err
    assert run([attest.add], [*init[:5], "third", "--key", "none.key"]) == 2
    assert "[key.missing]" in capsys.readouterr().err
    (place / "mine.key").chmod(0o644)
    assert run([attest.add], [*init[:5], "third", "--key", "mine.key"]) == 2
    assert "[key.exposed]" in capsys.readouterr().err
    assert not (place / "third").exists()


def test_a_key_that_may_not_be_read_is_not_missing(
    place: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, limit: int) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    _firmware(place)
    refused(say("sign", "xen-hosts", *SIGN[:-1], "none.key"), 2, "key.missing", "keys new")
    monkeypatch.setattr(files, "read_regular", forbidden)
    with pytest.raises(Exception, match=r"\[key.unreadable\]") as caught:
        keys.read_private(place / "author.key")
    assert "Permission denied" in str(caught.value)
    assert "keys new" not in str(caught.value)


def test_the_key_of_another_tpm_is_told_as_that(
    place: Path, say: Say, shared_tpm: SoftwareTpm, own_tpm: SoftwareTpm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enrolled(say, place)
    booted(place, own_tpm)
    assert say("challenge", "xen1", "--observe", "-o", "c.json")[0] == 0
    monkeypatch.setenv(TCTI_VARIABLE, shared_tpm.name)
    text = refused(say("quote", "--challenge", "c.json", "-o", "e.json"), 3, "tpm.other-key",
                   "another TPM", "--new-key")
    assert "properties-variable" not in text


# Signing


def test_boots_and_bundles_that_do_not_belong_together(place: Path, say: Say) -> None:
    _firmware(place)
    known = boot_reference.loads((place / "banks.boots").read_bytes(), "banks.boots")
    other = replace(known[0], version="1.1", bundle="cd" * 32)
    (place / "banks.boots").write_bytes(boot_reference.dumps([*known, other]))
    text = refused(say("sign", "xen-hosts", *SIGN), 2, "reference.no-bundle", "banks 1.1",
                   "--bundle")
    assert not (place / "xen-hosts.ref").exists(), text


def test_a_bundle_that_no_boot_is_of(place: Path, say: Say) -> None:
    """It may come by an update, and is good until the host boots."""
    _firmware(place)
    (place / "next").mkdir()
    bundle(place / "next", BANKS.replace('"1.0"', '"1.1"'))
    (place / "next.shype").write_bytes(sealed(place / "next/bundle", AUTHOR))
    code, text = say("sign", "xen-hosts", *SIGN, "--bundle", "next.shype")
    assert (code, "warning" in text, "banks 1.1" in text) == (0, True, True), text
    assert "[reference.no-boot]" in text
    code, text = say("sign", "xen-hosts", *SIGN, "--json")
    assert (code, json.loads(text)["warnings"]) == (0, [])


def test_what_cannot_name_reference_values_is_no_damage(place: Path, say: Say) -> None:
    _firmware(place)
    for name in ("Xen Hosts", "xen-hosts.ref", "../x"):
        text = refused(say("sign", name, *SIGN), 2, "reference.name", "lower-case")
        assert "damaged" not in text
    (place / "x.ref").write_text("{}")
    refused(say("publish", "x.ref"), 2, "reference.corrupt", "shype attest sign")


@pytest.mark.parametrize(("window", "words"), [
    ("2027-02-01T00:00Z/2027-01-01T00:00Z", "ends before it begins"),
    ("2027-01-01T00:00Z/2027-01-01T00:00Z", "ends before it begins"),
    ("tomorrow", "is no window of time"), ("/", "is no window of time"),
])
def test_a_window_says_what_is_wrong_with_it(
    place: Path, say: Say, window: str, words: str
) -> None:
    _firmware(place)
    refused(say("sign", "x", *SIGN, "--maintenance", window), 2, "attest.window", words)


# Hosts


@pytest.mark.parametrize(("words", "told", "not_told"), [
    (("xen/1", "xen-hosts", EK), "'xen/1'", ("'xen-hosts'", EK)),
    (("xen1", "Xen Hosts", EK), "'Xen Hosts'", ("'xen1'", EK)),
    (("xen1", "xen-hosts", "12"), "'12'", ("'xen1'", "'xen-hosts'")),
])
def test_the_argument_that_is_wrong_is_told(
    say: Say, words: tuple[str, str, str], told: str, not_told: tuple[str, ...]
) -> None:
    name, reference, ek = words
    text = refused(say("admit", name, "--reference", reference, "--ek", ek), 2, "registry.name",
                   told)
    for word in not_told:
        assert word not in text
    assert ("shype attest ek" in text) == (ek != EK)


def test_an_unknown_host_is_answered_with_the_known(place: Path, say: Say) -> None:
    refused(say("forget", "xen1"), 2, "host.unknown", "no host is")
    assert say("admit", "xen1", "--reference", "xen-hosts", "--ek", EK)[0] == 0
    for words in (("revoke", "xen2", "--why", "stolen"), ("forget", "xen2"),
                  ("challenge", "xen2", "-o", "c")):
        text = refused(say(*words), 2, "host.unknown", "xen1")
        assert "attest admit NAME" not in text


def test_the_identities_of_hosts_are_shown(place: Path, say: Say) -> None:
    assert say("admit", "xen1", "--reference", "xen-hosts", "--ek", EK)[0] == 0
    assert EK[:16] in say("hosts")[1]
    assert say("enrol", "xen1", "-o", "request.json")[0] == 0
    refused(say("enrolment", "request.json", "-o", "c"), 2, "enrolment.other-tpm", "attest hosts")


def test_the_challenge_of_another_host_is_not_answered(place: Path, say: Say) -> None:
    id = json.loads(say("ek", "--json")[1])["id"]
    assert say("admit", "xen1", "--reference", "xen-hosts", "--ek", id)[0] == 0
    assert say("enrol", "xen1", "-o", "request.json")[0] == 0
    assert say("enrolment", "request.json", "-o", "challenge.json")[0] == 0
    refused(say("enrol", "xen2", "--challenge", "challenge.json", "-o", "answer.json"), 2,
            "enrolment.other-host", "xen1", "xen2")
    assert not (place / "answer.json").exists()


# Reference values that are not there, and chains


def test_without_reference_values_the_way_to_them_is_told(place: Path, say: Say) -> None:
    enrolled(say, place)
    refused(say("challenge", "xen1", "-o", "c"), 2, "reference.missing",
            "shype attest publish xen-hosts.ref", "--observe")


def test_evidence_that_is_none_is_bad_input_for_a_chain(place: Path, say: Say) -> None:
    (place / "b2.yaml").write_text("x: 1\n")
    (place / "b3.yaml").write_text("x: 1\n")
    refused(say("chain", "--guest", "b3.yaml", "--host", "b2.yaml", "--state", "verifier"), 2,
            "evidence.corrupt", "b3.yaml")


# Files and services


def test_an_efi_program_that_is_not_there(place: Path, say: Say) -> None:
    refused(say("reference", "--bundle", "policy.shype", "--keys", "keys", "--boot-dir", ".",
                "--efi", "none.efi"), 2, "attest.file", "none.efi")


@pytest.mark.parametrize(("words", "told"), [
    (("--tls-cert", "none.crt"), ("none.crt",)),
    (("--tls-cert", "none.crt", "--tls-key", "author.key"), ("none.crt",)),
    (("--tls-cert", "author.pub", "--tls-key", "none.key"), ("none.key",)),
    (("--tls-cert", "author.pub"), ("--tls-key is missing",)),
    (("--tls-key", "author.key"), ("--tls-cert is missing",)),
])
def test_a_service_without_its_certificate_or_key(
    say: Say, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    refused(say("serve", "--listen", "127.0.0.1:1", "--state", "verifier", *words), 2,
            "service.tls", *told)


@pytest.mark.parametrize("name", ["none.crt", "author.pub"])
def test_a_ca_that_is_none(place: Path, say: Say, name: str) -> None:
    refused(say("enrol", "xen1", "--verifier", "https://127.0.0.1:1", "--ca", name), 2,
            "verifier.ca", name)


# What is told


def test_a_boot_is_not_taken_for_a_version(
    place: Path, say: Say, own_tpm: SoftwareTpm
) -> None:
    enrolled(say, place)
    booted(place, own_tpm)
    published(say, place)
    assert say("challenge", "xen1", "-o", "c.json")[0] == 0
    assert say("quote", "--challenge", "c.json", "-o", "e.json")[0] == 0
    code, text = say("verify", "e.json")
    assert code == 0, text
    assert "resets" in text
    assert "holds" in text
    code, text = say("verify", "e.json")
    assert code == 1
    for word in ("resets", "holds", "0.0"):
        assert word not in text


@pytest.mark.parametrize("verb", ["", "sign", "reference", "chain"])
def test_help_names_what_there_is(
    say: Say, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        say(*verb.split(), "--help")
    text = capsys.readouterr().out
    epilog = re.split(r"\nexample", text)[-1]
    assert max(map(len, epilog.splitlines())) <= 80
    for gone in ("with --from", "--until", "banks.reference"):
        assert gone not in text
    if verb == "":
        steps = ("attest init", "attest admit", "attest enrol ", "attest enrolment",
                 "challenge xen1 --observe", "attest quote", "attest observe", "attest sign",
                 "attest publish", "attest verify")
        places = [text.rindex(step) for step in steps]
        assert len(places) == len(steps)
    if verb == "chain":
        for word in ("desk.challenge", "xen1.challenge", "attest quote"):
            assert word in text
