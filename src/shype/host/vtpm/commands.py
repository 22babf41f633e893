"""The three TPM commands that the agent itself sends to a VM's TPM before the VM gets it.

Bytes as in the TPM 2.0 Library, part 3: CreatePrimary (24.1), FlushContext (28.4) and
HierarchyControl (24.2). Standard library only: dom0 need not have a TPM library for its VMs' TPMs.
"""

from __future__ import annotations

import hashlib
import socket
import struct

#: TPMT_PUBLIC from which every TPM makes its ECC endorsement key: TCG EK Credential Profile 2.5,
#: B.3.4, template L-2. ECC, SHA-256; fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy,
#: restricted, decrypt; PolicySecret(endorsement); AES-128-CFB; no scheme; P-256; no KDF; 0, 0.
EK_ECC = (
    struct.pack(">HHIH", 0x0023, 0x000B, 0x000300B2, 32)
    + bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
    + struct.pack(">HHHHHH", 0x0006, 128, 0x0043, 0x0010, 3, 0x0010)
    + (struct.pack(">H", 32) + bytes(32)) * 2
)
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_CREATE_PRIMARY, _FLUSH_CONTEXT, _HIERARCHY_CONTROL = 0x131, 0x165, 0x121
_ENDORSEMENT, _PLATFORM = 0x4000000B, 0x4000000C
#: An authorization area with the empty password.
_EMPTY_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
#: Largest response of a TPM, bytes.
_MOST = 4096


class TpmError(Exception):
    """The TPM does not answer, or answers with an error."""


def ek_public(tpm: socket.socket) -> bytes:
    """The TPMT_PUBLIC of the ECC endorsement key of the TPM behind ``tpm``. Raises TpmError."""
    answer = _ask(tpm, _CREATE_PRIMARY, struct.pack(">I", _ENDORSEMENT), b"".join((
        struct.pack(">HHH", 4, 0, 0), _sized(EK_ECC), struct.pack(">HI", 0, 0))))
    try:
        handle, _, size = struct.unpack_from(">IIH", answer)
        public = answer[10:10 + size]
        if len(public) != size or len(public) != len(EK_ECC) or public[:-68] != EK_ECC[:-68]:
            raise TpmError("the TPM has made another key than it was asked for")
    except struct.error as error:
        raise TpmError("the TPM's answer ends too early") from error
    _ask(tpm, _FLUSH_CONTEXT, struct.pack(">I", handle), None)
    return public


def close_platform(tpm: socket.socket) -> None:
    """Switch the platform hierarchy off until the TPM is started again.

    As a PC's firmware does before it lets an operating system run: whoever has this hierarchy may
    exchange the seed of the endorsement key, and so the TPM's identity. Raises TpmError.
    """
    handle = struct.pack(">I", _PLATFORM)
    _ask(tpm, _HIERARCHY_CONTROL, handle, handle + b"\0")


def identity(public: bytes) -> str:
    """The TPM's identity as `shype attest ek` shows it: SHA-256, 64 hex digits."""
    return hashlib.sha256(public).hexdigest()


def _ask(tpm: socket.socket, code: int, handles: bytes, parameters: bytes | None) -> bytes:
    """What follows the header of the response. ``parameters`` None: without authorization."""
    tag = _NO_SESSIONS if parameters is None else _SESSIONS
    body = handles + (b"" if parameters is None else _EMPTY_PASSWORD + parameters)
    try:
        tpm.sendall(struct.pack(">HII", tag, 10 + len(body), code) + body)
        _, size, result = struct.unpack(">HII", _exactly(tpm, 10))
        if not 10 <= size <= _MOST:
            raise TpmError(f"the TPM's answer has {size} bytes")
        rest = _exactly(tpm, size - 10)
    except OSError as error:
        raise TpmError(f"the TPM does not answer: {error}") from error
    if result:
        raise TpmError(f"the TPM refuses the command {code:#x} with {result:#x}")
    return rest


def _exactly(tpm: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = tpm.recv(size - len(data))
        if not part:
            raise TpmError("the TPM has ended")
        data += part
    return data


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data
