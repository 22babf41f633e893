"""The registers of a lab's TPM, read in its dom0."""

from __future__ import annotations

from shype.lab.host import Lab

_PROGRAM = """
from tpm2_pytss import ESAPI
tpm = ESAPI("device:/dev/tpmrm0")
for first in (0, 8, 16):
    pcrs = range(first, first + 8)
    _, _, values = tpm.pcr_read("sha256:" + ",".join(map(str, pcrs)))
    for pcr, value in zip(pcrs, values):
        print(pcr, bytes(value).hex())
"""


def pcrs(lab: Lab) -> dict[int, bytes]:
    """All registers of the SHA-256 bank."""
    done = lab.run(["python3", "-c", _PROGRAM])
    assert done.code == 0, done.err
    rows = (line.split() for line in done.out.splitlines() if line.strip())
    return {int(pcr): bytes.fromhex(value) for pcr, value in rows}
