"""What a TPM's refusal means, and what to do about it. Standard library only."""

from __future__ import annotations

from typing import Any

from shype.base.errors import ShypeError, Unavailable

#: TPM_RC_INTEGRITY (TPM 2.0 Library, part 2, 6.6.3): what was wrapped is not by this TPM.
_INTEGRITY = 0x9F
#: TPM_RC_FAILURE: it answers nothing else until it is started anew.
_FAILURE = 0x101


def named(error: Any, name: str) -> ShypeError:
    """The error of shype's for a TSS2_Exception of the TPM ``name``."""
    # The way to it (TCTI), or, from the second command on, TSS2_ESYS_RC_BAD_SEQUENCE.
    if error.rc & 0xFF0000 == 0x0A0000 or error.rc == 0x70007:
        return Unavailable(
            "tpm.gone", f"the TPM at {name} does not answer: {error}",
            "look at the kernel's messages about tpm; a TPM that fails needs a reboot",
        )
    if error.error == _FAILURE:
        return failed(
            f"the TPM at {name} is in failure mode: {error}",
            "reboot; a software TPM has lost its state: end it, and start it with an absolute "
            "directory that exists (--tpmstate dir=$PWD/tpm)")
    return failed(f"the TPM at {name} refuses: {error}")


def failed(
    problem: str, fix: str = "the TPM's own words are in the sentence; if they are of a lockout, "
    "tpm2_getcap properties-variable says for how long"
) -> ShypeError:
    """The answer is an error."""
    return Unavailable("tpm.failed", problem, fix)


def foreign(error: ShypeError) -> bool:
    """Whether the TPM could not open what it was given, because another one has closed it."""
    return getattr(error.__cause__, "error", None) == _INTEGRITY


def other_key(name: str) -> ShypeError:
    """The attestation key cannot be loaded into the TPM ``name``."""
    return Unavailable(
        "tpm.other-key", "the attestation key of this host is another TPM's than the one at "
        f"{name}, or of before that was cleared",
        "name the TPM with which it was enrolled (--tpm, or TPM2TOOLS_TCTI), or enrol with this "
        "one: shype attest enrol NAME --new-key",
    )


def no_counter(index: int) -> ShypeError:
    """There is no such counter, or it was never used."""
    return Unavailable(
        "tpm.no-counter", f"the TPM has no counter {index:#x} that was ever used",
        "somebody has deleted it, or cleared the TPM: enrol the host again",
    )
