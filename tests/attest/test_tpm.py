"""The TPM, on a real one in software: keys, quotes, registers, counters; and when it is not there.
"""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from shype.attest import tpm
from shype.attest.event_log import INITIAL, extended
from shype.attest.quote import parse
from shype.attest.tpm import EkKind, KeyBlob, Tpm
from shype.base.errors import BadInput, ShypeError, Unavailable
from tests.attest.software_tpm import SoftwareTpm, two_free_ports

COUNTER = 0x01800100


@pytest.mark.parametrize("kind", EkKind)
def test_an_endorsement_key_is_the_tpm_s_for_life(own_tpm: SoftwareTpm, kind: EkKind) -> None:
    with own_tpm.open() as chip:
        first = chip.ek(kind)
        assert chip.ek_certificate(kind) is None  # nobody has made this one
    own_tpm.reboot()
    with own_tpm.open() as chip:
        assert chip.ek(kind) == first
    # what the TPM adds is only the key itself
    tail = 256 if kind is EkKind.RSA else 68
    assert first[:-tail] == kind.template[:-tail]


def test_the_endorsement_keys_policy_is_the_one_that_it_stands_for() -> None:
    # TPM2_PolicySecret(TPM_RH_ENDORSEMENT), TPM 2.0 Library part 3, 23.4
    once = hashlib.sha256(bytes(32) + struct.pack(">II", 0x151, 0x4000000B)).digest()
    for kind in EkKind:
        assert hashlib.sha256(once).digest() in kind.template


def test_attestation_keys_are_new_each_time_and_restricted(shared_tpm: SoftwareTpm) -> None:
    with shared_tpm.open() as chip:
        one, two = chip.new_ak(), chip.new_ak()
    assert one.public != two.public
    kind, name_alg, attributes = struct.unpack_from(">HHI", one.public)
    assert (kind, name_alg, attributes) == (0x23, 0x0B, tpm.AK_ATTRIBUTES)


def test_a_key_is_of_use_to_its_own_tpm_only(
    shared_tpm: SoftwareTpm, own_tpm: SoftwareTpm
) -> None:
    with shared_tpm.open() as chip:
        key = chip.new_ak()
        assert chip.quote(key, b"n" * 32, [13]).attest
    with own_tpm.open() as other, pytest.raises(Unavailable) as caught:
        other.quote(key, b"n" * 32, [13])
    assert caught.value.id == "tpm.other-key"


def test_registers_are_extended_as_the_log_s_replay_does(own_tpm: SoftwareTpm) -> None:
    digest = hashlib.sha256(b"something").digest()
    with own_tpm.open() as chip:
        assert chip.pcr_read(range(24)) == INITIAL
        chip.pcr_extend(13, digest)
        chip.pcr_extend(13, digest)
        assert chip.pcr_read([13])[13] == extended(extended(bytes(32), digest), digest)
    own_tpm.reboot()
    with own_tpm.open() as chip:
        assert chip.pcr_read([13])[13] == bytes(32)


def test_a_quote_leaves_nothing_loaded(shared_tpm: SoftwareTpm) -> None:
    # a TPM without resource manager has room for three objects
    with shared_tpm.open() as chip:
        key = chip.new_ak()
        for _ in range(8):
            chip.quote(key, b"n" * 32, [0, 13])
        for _ in range(8):
            with pytest.raises(Unavailable):
                chip.activate(key, b"rubbish", b"rubbish")
        assert chip.quote(key, b"n" * 32, [0, 13])


def test_a_quote_shows_the_same_boot_as_the_clock(shared_tpm: SoftwareTpm) -> None:
    with shared_tpm.open() as chip:
        said, here = parse(chip.quote(chip.new_ak(), b"n" * 32, [13]).attest), chip.clock()
    assert (said.clock.reset_count, said.clock.restart_count) == (
        here.reset_count, here.restart_count)
    assert said.clock.milliseconds <= here.milliseconds


def test_boots_are_counted(own_tpm: SoftwareTpm) -> None:
    with own_tpm.open() as chip:
        before = chip.clock()
    own_tpm.reboot()
    with own_tpm.open() as chip:
        after = chip.clock()
    assert after.reset_count == before.reset_count + 1
    assert after.restart_count == 0


def test_a_counter_only_grows(own_tpm: SoftwareTpm) -> None:
    with own_tpm.open() as chip:
        with pytest.raises(Unavailable) as caught:
            chip.counter_read(COUNTER)
        assert caught.value.id == "tpm.no-counter"
        with pytest.raises(Unavailable):
            chip.counter_increment(COUNTER)
        chip.counter_define(COUNTER)
        with pytest.raises(Unavailable):  # defined, and not used yet
            chip.counter_read(COUNTER)
        first = chip.counter_increment(COUNTER)
        assert [chip.counter_increment(COUNTER) for _ in range(3)] == [first + n for n in (1, 2, 3)]
        with pytest.raises(Unavailable) as caught:
            chip.counter_define(COUNTER)
        assert caught.value.id == "tpm.failed"
    own_tpm.reboot()
    with own_tpm.open() as chip:
        assert chip.counter_read(COUNTER) == first + 3
        chip.counter_delete(COUNTER)
        chip.counter_define(COUNTER)
        assert chip.counter_increment(COUNTER) > first + 3, "a new one would start over"
        with pytest.raises(ValueError, match="owner"):
            chip.counter_define(0x01C00002)


def test_random_bytes_differ(shared_tpm: SoftwareTpm) -> None:
    with shared_tpm.open() as chip:
        assert len(chip.random(32)) == 32
        assert chip.random(32) != chip.random(32)


@pytest.mark.parametrize("name", [
    "", "device", "cmd:touch /tmp/x", "libtss2-tcti-cmd.so:id", "device:/dev/../etc/passwd",
    "device:/dev/tpm0;x", "swtpm:host=a b,port=1", "swtpm:port=x", "mssim:port=1", "tabrmd:",
    "pcap:device:/dev/tpm0",
])
def test_no_other_library_is_loaded_by_name(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        Tpm(name)
    assert caught.value.id == "tpm.tcti"


@pytest.mark.parametrize("name", ["device:/dev/no-such-tpm", "swtpm:host=127.0.0.1,port=1"])
def test_a_tpm_that_is_not_there_is_called_absent(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Unavailable) as caught:
        Tpm(name)
    assert caught.value.id == "tpm.absent"
    assert name in caught.value.message
    assert capfd.readouterr().err == "", "the library's own messages are no use to anybody"


def test_without_the_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(Unavailable) as caught:
        Tpm("device:/dev/tpmrm0")
    assert caught.value.id == "tpm.library"


def test_a_tpm_that_goes_away_is_an_error_with_a_name(own_tpm: SoftwareTpm) -> None:
    chip = own_tpm.open()
    key = chip.new_ak()
    own_tpm.stop()
    for call in (lambda: chip.quote(key, b"n" * 32, [13]), lambda: chip.pcr_extend(13, bytes(32)),
                 lambda: chip.pcr_read([13]), chip.clock, chip.new_ak, chip.ek,
                 lambda: chip.counter_read(COUNTER), chip.ek_certificate):
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.id == "tpm.gone"


@pytest.mark.parametrize("key", [
    KeyBlob(b"", b""), KeyBlob(b"\0" * 80, b"x"), KeyBlob(bytes(5000), bytes(5000)),
    KeyBlob(EkKind.ECC.template, b"private"),
])
def test_what_is_no_key_is_refused(shared_tpm: SoftwareTpm, key: KeyBlob) -> None:
    with shared_tpm.open() as chip, pytest.raises(ShypeError) as caught:
        chip.quote(key, b"n" * 32, [13])
    assert caught.value.id == "tpm.failed"


def test_bad_registers_and_digests_are_the_caller_s_fault(shared_tpm: SoftwareTpm) -> None:
    with shared_tpm.open() as chip:
        for pcr, digest in ((24, bytes(32)), (-1, bytes(32)), (13, bytes(20))):
            with pytest.raises(ValueError, match="register"):
                chip.pcr_extend(pcr, digest)


def test_which_tpm_is_meant_is_the_environment_s_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tpm.TCTI_VARIABLE, raising=False)
    assert tpm.tcti() == tpm.DEFAULT_TCTI
    monkeypatch.setenv(tpm.TCTI_VARIABLE, "swtpm:port=7")
    assert tpm.tcti() == "swtpm:port=7"


def test_a_nonce_of_another_size_is_refused_by_the_tpm(shared_tpm: SoftwareTpm) -> None:
    with shared_tpm.open() as chip:
        key = chip.new_ak()
        with pytest.raises(Unavailable):
            chip.quote(key, bytes(65), [13])
        with pytest.raises(Unavailable):
            chip.quote(key, bytes(32), [99])


def test_a_tpm_that_has_lost_its_state_is_not_called_locked(
    own_tpm: SoftwareTpm, tmp_path: Path
) -> None:
    """As swtpm does with a relative directory and --daemon, which changes to /. ``own_tpm`` only
    asks for swtpm to be installed."""
    (tmp_path / "tpm").mkdir()
    port, pid = two_free_ports(), tmp_path / "pid"
    subprocess.run(
        ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=tpm", "--server", f"type=tcp,port={port}",
         "--ctrl", f"type=tcp,port={port + 1}", "--flags", "not-need-init,startup-clear",
         "--pid", f"file={pid}", "--daemon"], cwd=tmp_path, check=True, timeout=60)
    try:
        with pytest.raises(Unavailable) as caught, Tpm(f"swtpm:host=127.0.0.1,port={port}") as chip:
            chip.ek()
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
    assert caught.value.id == "tpm.failed"
    assert "dir=$PWD/tpm" in caught.value.fix
