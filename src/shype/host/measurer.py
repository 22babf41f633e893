"""Who measures what a host does, so that others can know it; and nobody, on most hosts.

By a TPM: `shype.attest.measuring`.  What is measured, and when: `shype.host.measured`.
"""

from __future__ import annotations

from typing import Protocol

from shype.policy.manifest import Manifest


class Measurer(Protocol):
    """Measures events before they have an effect.

    Every method raises Unavailable if it cannot (``tpm.*``, ``event-log.*``): the event is then
    not measured, or it is found and completed later; never half.
    """

    @property
    def active(self) -> bool:
        """Whether anything is measured at all."""

    def observe(self, manifest: Manifest, mode: str) -> None:
        """The policy of ``manifest`` is in force as ``mode``.

        ``enforcing``, ``permissive``, or ``disabled`` (it is not in force). Measured if it is new
        since the last time, as is the agent itself.
        """

    def load(self, manifest: Manifest) -> None:
        """A policy is about to be loaded."""

    def launch(self, label: str, image: str) -> None:
        """A VM of a label is about to run; ``image`` is the digest of what it boots."""

    def vtpm(self, vm: str, uuid: str, label: str, ek: str) -> None:
        """A VM is about to get its TPM; ``ek`` is that TPM's identity."""

    def vector(self, name: str) -> None:
        """Another vector of a static policy is about to be in force."""


class Nobody:
    """Measures nothing: a host that is not set up for attestation."""

    active = False

    def observe(self, manifest: Manifest, mode: str) -> None:
        """Nothing."""

    def load(self, manifest: Manifest) -> None:
        """Nothing."""

    def launch(self, label: str, image: str) -> None:
        """Nothing."""

    def vtpm(self, vm: str, uuid: str, label: str, ek: str) -> None:
        """Nothing."""

    def vector(self, name: str) -> None:
        """Nothing."""


NOBODY = Nobody()
