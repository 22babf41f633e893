"""The TPM: keys, quotes, registers and counters. The only module that talks to one.

By tpm2-pytss (tpm2-tss' ESAPI), keeping to what version 1.2 has, which Debian 12 ships; it is
imported when a TPM is opened. What goes in and out are structures as the TPM marshals them
(TPM 2.0 Library, part 2), as bytes, so that nothing else needs the library: a verifier has none.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from shype.attest import tpm_errors
from shype.attest.event_log import PCRS, SIZE
from shype.base.errors import BadInput, Unavailable
from shype.host.vtpm.commands import EK_ECC

#: The TPM of this machine, through the kernel's resource manager.
DEFAULT_TCTI = "device:/dev/tpmrm0"
#: Where a program says which TPM is meant, as tpm2-tools has it.
TCTI_VARIABLE = "TPM2TOOLS_TCTI"

#: A TCTI string names a library to load: these two, and no other.
_TCTI = re.compile(
    r"device:/dev/[A-Za-z0-9_/-]{1,60}"
    r"|swtpm:(?:host=[A-Za-z0-9.:-]{1,253},)?port=[0-9]{1,5}")

# TCG EK Credential Profile 2.5, B.3.3: template L-1 (RSA 2048); L-2 (ECC P-256) is `EK_ECC`.
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_EK_ATTRIBUTES = 0x000300B2
_AES = struct.pack(">HHH", 0x0006, 128, 0x0043)  # AES, 128, CFB
_NULL = struct.pack(">H", 0x0010)
_EK_RSA = (
    struct.pack(">HHIH", 0x0001, 0x000B, _EK_ATTRIBUTES, 32) + _EK_POLICY
    + _AES + _NULL + struct.pack(">HIH", 2048, 0, 256) + bytes(256)
)
# Parent of attestation keys: the template of storage root keys (TCG TPM v2.0 Provisioning Guidance,
# 7.5.1). In the endorsement hierarchy, because to keys of others a quote shows boot counts
# that are obfuscated (TPM 2.0 Library, part 2, TPMS_ATTEST).
_PARENT = (
    struct.pack(">HHIH", 0x0023, 0x000B, 0x00030472, 0)
    + _AES + _NULL + struct.pack(">H", 3) + _NULL + struct.pack(">HH", 0, 0)
)
#: Restricted: it signs only what the TPM itself has made. fixedTPM, fixedParent,
#: sensitiveDataOrigin, userWithAuth, restricted, sign.
AK_ATTRIBUTES = 0x00050072
#: TPMT_PUBLIC of an attestation key, before there is one.
AK_TEMPLATE = (
    struct.pack(">HHIH", 0x0023, 0x000B, AK_ATTRIBUTES, 0)
    + _NULL + struct.pack(">HH", 0x0018, 0x000B) + struct.pack(">H", 3) + _NULL
    + struct.pack(">HH", 0, 0)  # ECDSA with SHA-256, on P-256
)
#: TPMA_NV of a counter: owner and authValue write and read; TPM_NT_COUNTER; no dictionary attack.
_COUNTER = 0x00060006 | 0x10 | 0x02000000
#: Indexes for the owner, from 0x01800000 on (Registry of Reserved TPM 2.0 Handles, 2.2).
_NV_OWNER = range(0x01800000, 0x01C00000)
_MAX_CERTIFICATE = 4096


class EkKind(StrEnum):
    """The two endorsement keys that every TPM for PCs has, or can make."""

    RSA = "rsa-2048"
    ECC = "ecc-p256"

    @property
    def template(self) -> bytes:
        """TPMT_PUBLIC from which the TPM makes it, always the same."""
        return _EK_RSA if self is EkKind.RSA else EK_ECC

    @property
    def certificate_index(self) -> int:
        """NV index where the manufacturer has put the certificate (same profile, 2.2.1.4)."""
        return 0x01C00002 if self is EkKind.RSA else 0x01C0000A


@dataclass(frozen=True, slots=True)
class KeyBlob:
    """A key of one TPM: TPMT_PUBLIC, and TPM2B_PRIVATE's content, which only that TPM can open."""

    public: bytes
    private: bytes


@dataclass(frozen=True, slots=True)
class Quote:
    """What the TPM says of its registers: TPMS_ATTEST, and TPMT_SIGNATURE over it."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Clock:
    """TPMS_CLOCK_INFO: milliseconds powered since the owner came, boots, wake-ups; whether
    ``milliseconds`` may be trusted not to have been there before."""

    milliseconds: int
    reset_count: int
    restart_count: int
    safe: bool


def tcti() -> str:
    """Which TPM is meant: the environment's word, or this machine's."""
    return os.environ.get(TCTI_VARIABLE) or DEFAULT_TCTI


class Tpm:
    """An open TPM; use it in a ``with`` statement.

    Every method raises Unavailable: ``tpm.gone`` if there is no answer, ``tpm.failed`` if the
    answer is an error, ``tpm.other-key`` if a key is another TPM's. Nothing stays loaded in the
    TPM after a method.
    """

    def __init__(self, name: str | None = None) -> None:
        """Open the TPM with the TCTI string ``name`` (None: `tcti`).

        Raises BadInput (``tpm.tcti``), Unavailable: ``tpm.library``, ``tpm.absent``.
        """
        name = tcti() if name is None else name
        if not _TCTI.fullmatch(name):
            raise BadInput(
                "tpm.tcti", f"{name!r} names no TPM",
                "use device:/dev/tpmrm0, or swtpm:host=ADDRESS,port=PORT for a software TPM",
            )
        self.name = name
        os.environ.setdefault("TSS2_LOG", "all+NONE")  # errors are ours to tell
        try:
            import tpm2_pytss
        except (ImportError, NotImplementedError) as error:
            raise Unavailable(
                "tpm.library", "the TPM is used by the Python package 'tpm2-pytss', which is not "
                "there", "apt-get install python3-tpm2-pytss; elsewhere: apt-get install "
                "libtss2-dev; pip install tpm2-pytss",
            ) from error
        self._t: Any = tpm2_pytss
        try:
            self._e: Any = tpm2_pytss.ESAPI(name)
        except (tpm2_pytss.TSS2_Exception, RuntimeError) as error:
            raise Unavailable(
                "tpm.absent", f"there is no TPM at {name}: {error}",
                "enable the TPM in the firmware's settings; as root, ls -l /dev/tpmrm0",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give it back to others."""
        self._e.close()

    # Keys

    def ek(self, kind: EkKind = EkKind.ECC) -> bytes:
        """The endorsement key's TPMT_PUBLIC: the TPM's identity, the same for its whole life."""
        with self._primary(kind.template, self._t.ESYS_TR.ENDORSEMENT) as (_, public):
            return public

    def ek_certificate(self, kind: EkKind = EkKind.ECC) -> bytes | None:
        """The manufacturer's certificate of the endorsement key, DER; None if it has put none."""
        return self._nv_read(kind.certificate_index)

    def new_ak(self) -> KeyBlob:
        """A new attestation key, ECC P-256, restricted: it signs only what the TPM says."""
        with self._parent() as parent:
            private, public, *_ = self._do(lambda: self._e.create(
                parent, None, self._public(AK_TEMPLATE)))
            return KeyBlob(bytes(public.publicArea.marshal()), bytes(private.buffer))

    def activate(
        self, ak: KeyBlob, credential: bytes, secret: bytes, kind: EkKind = EkKind.ECC
    ) -> bytes:
        """What a verifier has encrypted to this TPM and this key (TPM2_ActivateCredential).

        ``credential``: content of TPM2B_ID_OBJECT, ``secret``: of TPM2B_ENCRYPTED_SECRET. A TPM
        answers only if it has both the endorsement key and ``ak``.
        """
        tr, t = self._t.ESYS_TR, self._t
        none = t.TPMT_SYM_DEF(algorithm=t.TPM2_ALG.NULL)
        with (self._loaded(ak) as key,
              self._primary(kind.template, tr.ENDORSEMENT) as (ek, _)):
            session = self._do(lambda: self._e.start_auth_session(
                tr.NONE, tr.NONE, t.TPM2_SE.POLICY, none, t.TPM2_ALG.SHA256))
            with self._flushed(session):
                self._do(lambda: self._e.policy_secret(
                    tr.ENDORSEMENT, session, b"", b"", b"", 0))
                found = self._do(lambda: self._e.activate_credential(
                    key, ek, t.TPM2B_ID_OBJECT(credential=credential),
                    t.TPM2B_ENCRYPTED_SECRET(secret=secret), session2=session))
                return bytes(found.buffer)

    def quote(self, ak: KeyBlob, nonce: bytes, pcrs: Iterable[int]) -> Quote:
        """The SHA-256 registers ``pcrs`` as they are now, signed together with ``nonce``."""
        with self._loaded(ak) as key:
            attest, signature = self._do(lambda: self._e.quote(
                key, _selection(pcrs), self._t.TPM2B_DATA(buffer=nonce)))
            return Quote(bytes(attest.attestationData), bytes(signature.marshal()))

    # Registers and the clock

    def pcr_read(self, pcrs: Iterable[int]) -> dict[int, bytes]:
        """The values of the SHA-256 registers ``pcrs``."""
        left, values = sorted(set(pcrs)), dict[int, bytes]()
        while left:  # a TPM answers with 8 at most, and may take fewer
            asked = left[:8]
            _, chosen, digests = self._do(lambda: self._e.pcr_read(_selection(asked)))  # noqa: B023
            got, listed = _selected(bytes(chosen.marshal())), bytes(digests.marshal())
            if not got or len(listed) != 4 + len(got) * (2 + SIZE):
                raise tpm_errors.failed(f"the TPM at {self.name} has no SHA-256 registers {asked}")
            values.update({
                pcr: listed[at:at + SIZE]
                for pcr, at in zip(got, range(6, len(listed), 2 + SIZE), strict=True)})
            left = [pcr for pcr in left if pcr not in values]
        return values

    def pcr_extend(self, pcr: int, digest: bytes) -> None:
        """Extend the SHA-256 register ``pcr`` by ``digest``."""
        if not 0 <= pcr < PCRS or len(digest) != SIZE:
            raise ValueError("no register, or no SHA-256 digest")
        values = struct.pack(">IH", 1, 0x000B) + digest
        listed, _ = self._t.TPML_DIGEST_VALUES.unmarshal(values)
        self._do(lambda: self._e.pcr_extend(self._t.ESYS_TR(pcr), listed))

    def clock(self) -> Clock:
        """Time and boots as the TPM counts them."""
        info = self._do(lambda: self._e.read_clock()).clockInfo
        return Clock(int(info.clock), int(info.resetCount), int(info.restartCount),
                     bool(info.safe))

    def random(self, size: int) -> bytes:
        """Random bytes, at most 32 at a time."""
        return bytes(self._do(lambda: self._e.get_random(size)).buffer)

    # Counters

    def counter_define(self, index: int) -> None:
        """A new counter in the TPM's memory that only grows; unreadable until `counter_increment`.

        It starts above every counter that the TPM ever had, so deleting it gains nothing. Raises
        Unavailable ``tpm.failed`` if there is one.
        """
        t = self._t
        space = t.TPM2B_NV_PUBLIC(nvPublic=t.TPMS_NV_PUBLIC(
            nvIndex=_owners(index), nameAlg=t.TPM2_ALG.SHA256, attributes=t.TPMA_NV(_COUNTER),
            authPolicy=b"", dataSize=8))
        handle = self._do(lambda: self._e.nv_define_space(b"", space))
        self._do(lambda: self._e.tr_close(handle))

    def counter_increment(self, index: int) -> int:
        """Add one and return the counter. Raises Unavailable ``tpm.no-counter``."""
        handle = self._nv(_owners(index))
        if handle is None:
            raise tpm_errors.no_counter(index)
        self._do(lambda: self._e.nv_increment(handle))
        return self.counter_read(index)

    def counter_read(self, index: int) -> int:
        """The counter. Raises Unavailable ``tpm.no-counter`` (there is none, or never used)."""
        data = self._nv_read(_owners(index))
        if data is None or len(data) != 8:
            raise tpm_errors.no_counter(index)
        return int.from_bytes(data, "big")

    def counter_delete(self, index: int) -> None:
        """Remove the counter. Raises Unavailable ``tpm.no-counter``."""
        handle = self._nv(_owners(index))
        if handle is None:
            raise tpm_errors.no_counter(index)
        self._do(lambda: self._e.nv_undefine_space(handle))

    # What the others are made of

    def _do(self, call: Callable[[], Any]) -> Any:
        """Every command goes through here, so that every failure has its name."""
        try:
            return call()
        except self._t.TSS2_Exception as error:
            raise tpm_errors.named(error, self.name) from error
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise tpm_errors.failed(f"the TPM at {self.name} cannot be used: {error}") from error

    def _public(self, template: bytes) -> Any:
        area, _ = self._t.TPMT_PUBLIC.unmarshal(template)
        return self._t.TPM2B_PUBLIC(publicArea=area)

    @contextlib.contextmanager
    def _flushed(self, handle: Any) -> Iterator[Any]:
        try:
            yield handle
        finally:
            with contextlib.suppress(self._t.TSS2_Exception, RuntimeError):
                self._e.flush_context(handle)

    @contextlib.contextmanager
    def _primary(self, template: bytes, hierarchy: Any) -> Iterator[tuple[Any, bytes]]:
        handle, public, *_ = self._do(lambda: self._e.create_primary(
            self._t.TPM2B_SENSITIVE_CREATE(), self._public(template), hierarchy))
        with self._flushed(handle):
            yield handle, bytes(public.publicArea.marshal())

    @contextlib.contextmanager
    def _parent(self) -> Iterator[Any]:
        with self._primary(_PARENT, self._t.ESYS_TR.ENDORSEMENT) as (handle, _):
            yield handle

    @contextlib.contextmanager
    def _loaded(self, key: KeyBlob) -> Iterator[Any]:
        with self._parent() as parent:
            try:
                handle = self._do(lambda: self._e.load(
                    parent, self._t.TPM2B_PRIVATE(buffer=key.private), self._public(key.public)))
            except Unavailable as error:
                if not tpm_errors.foreign(error):
                    raise
                raise tpm_errors.other_key(self.name) from error
        with self._flushed(handle):
            yield handle

    def _nv(self, index: int) -> Any:
        """A handle for an NV index, None if it is not defined."""
        try:
            return self._e.tr_from_tpmpublic(index)
        except self._t.TSS2_Exception as error:
            if error.error == 0x8B:  # TPM_RC_HANDLE
                return None
            raise tpm_errors.named(error, self.name) from error

    def _nv_read(self, index: int) -> bytes | None:
        handle = self._nv(index)
        if handle is None:
            return None
        public, _ = self._do(lambda: self._e.nv_read_public(handle))
        size = min(int(public.nvPublic.dataSize), _MAX_CERTIFICATE)
        data = b""
        while len(data) < size:
            part = min(512, size - len(data))
            try:
                data += bytes(self._e.nv_read(handle, part, len(data), handle).buffer)
            except self._t.TSS2_Exception as error:
                if error.error == 0x14A:  # TPM_RC_NV_UNINITIALIZED
                    return None
                raise tpm_errors.named(error, self.name) from error
        return data


def _selection(pcrs: Iterable[int]) -> str:
    return "sha256:" + ",".join(str(pcr) for pcr in sorted(set(pcrs)))


def _selected(marshalled: bytes) -> list[int]:
    """The registers of a TPML_PCR_SELECTION with one bank."""
    count, _, size = struct.unpack_from(">IHB", marshalled)
    bits = int.from_bytes(marshalled[7:7 + size], "little")
    return [pcr for pcr in range(PCRS) if bits >> pcr & 1] if count == 1 else []


def _owners(index: int) -> int:
    if index not in _NV_OWNER:
        raise ValueError("no NV index of the owner's")
    return index
