"""A TPM on paper: registers, a boot count, and quotes as a TPM makes them, all in this process.

For tests that need thousands of quotes or quotes that no TPM would make. What it does is compared
with a real one in test_paper_tpm.py.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from shype.attest.event_log import INITIAL, extended
from shype.attest.tpm import AK_TEMPLATE, Clock, EkKind, KeyBlob, Quote


class PaperTpm:
    """As much of `shype.attest.tpm.Tpm` as a host needs to quote."""

    def __init__(self) -> None:
        self._keys: dict[bytes, ec.EllipticCurvePrivateKey] = {}
        self._registers = dict(INITIAL)
        self.resets, self.restarts, self.time = 1, 0, 1000
        #: What a quote says besides registers and nonce, if it shall lie.
        self.magic, self.kind = 0xFF544347, 0x8018

    def ek(self, kind: EkKind = EkKind.ECC) -> bytes:
        return b""

    def ek_certificate(self, kind: EkKind = EkKind.ECC) -> bytes | None:
        return None

    def new_ak(self) -> KeyBlob:
        key = ec.generate_private_key(ec.SECP256R1())
        point = key.public_key().public_numbers()
        public = AK_TEMPLATE[:-4] + b"".join(
            struct.pack(">H", 32) + number.to_bytes(32, "big") for number in (point.x, point.y))
        self._keys[public] = key
        return KeyBlob(public, b"paper")

    def pcr_read(self, pcrs: Iterable[int]) -> dict[int, bytes]:
        return {pcr: self._registers[pcr] for pcr in sorted(set(pcrs))}

    def pcr_extend(self, pcr: int, digest: bytes) -> None:
        self._registers[pcr] = extended(self._registers[pcr], digest)

    def reset_register(self, pcr: int) -> None:
        """What no TPM does to this register without a boot."""
        self._registers[pcr] = INITIAL[pcr]

    def reboot(self) -> None:
        self._registers = dict(INITIAL)
        self.resets += 1
        self.restarts = 0

    def clock(self) -> Clock:
        return Clock(self.time, self.resets, self.restarts, True)

    def attest(self, nonce: bytes, pcrs: Iterable[int]) -> bytes:
        """TPMS_ATTEST."""
        chosen = sorted(set(pcrs))
        bits = sum(1 << pcr for pcr in chosen).to_bytes(3, "little")
        digest = hashlib.sha256(b"".join(self._registers[pcr] for pcr in chosen)).digest()
        self.time += 10
        return (
            struct.pack(">IHH", self.magic, self.kind, 34) + b"\0\x0b" + bytes(32)
            + struct.pack(">H", len(nonce)) + nonce
            + struct.pack(">QIIBQ", self.time, self.resets, self.restarts, 1, 0x20191023_00163636)
            + struct.pack(">IHB", 1, 0x0B, 3) + bits + struct.pack(">H", 32) + digest
        )

    def sign(self, key: KeyBlob, attest: bytes) -> bytes:
        """TPMT_SIGNATURE."""
        r, s = utils.decode_dss_signature(
            self._keys[key.public].sign(attest, ec.ECDSA(hashes.SHA256())))
        return struct.pack(">HH", 0x18, 0x0B) + b"".join(
            struct.pack(">H", 32) + number.to_bytes(32, "big") for number in (r, s))

    def quote(self, ak: KeyBlob, nonce: bytes, pcrs: Iterable[int]) -> Quote:
        attest = self.attest(nonce, pcrs)
        return Quote(attest, self.sign(ak, attest))
