"""Which policy may follow the manager's, and the way back while the new one is on trial.

dom0 only carries the bundle.  The manager believes it if a key in its own image has signed it, and
takes it if it goes on with the very policy that is enforced: the same name (or it says `was:`), a
higher version than any that was, for this hypervisor, live, and with the same manager.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput, ShypeError
from shype.host.manager.incoming import Incoming
from shype.host.manager.rights import require_rights
from shype.host.update.staged import Staged
from shype.host.verify.binary import also_named
from shype.host.versions import Accepted, advanced
from shype.policy import envelope, signed
from shype.policy.ed25519 import KeyId, PublicKey
from shype.policy.manifest import Bundle
from shype.policy.model import Updates

#: Seconds that a new policy is on trial at most; then the manager goes back to the last one.
TRIAL = 600.0
#: How messages name what has no path.
_SENT = Path("the offered bundle")


class Refused(ShypeError):
    """The manager says no, and nothing has changed."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """The policy to go back to, the binary that does it, and until when (the manager's clock)."""

    before: Staged
    back: bytes
    until: float


class Succession:
    """The bundle that is enforced (``now``), the one before while it is on trial, the next."""

    def __init__(
        self, now: Staged, keys: Mapping[KeyId, PublicKey], known: Mapping[str, Accepted],
    ) -> None:
        self.now, self._keys = now, keys
        self._known = advanced(known, now.bundle)
        self.trial: Trial | None = None
        self._incoming: Incoming | None = None

    def offer(self, request: Mapping[str, object]) -> int:
        """A bundle is going to be sent; one that was not finished is forgotten."""
        self._incoming = None
        self._incoming = Incoming(request.get("size"), request.get("digest"))
        return 0

    def add(self, request: Mapping[str, object]) -> int:
        """A part of it. Raises Refused (``manager.request``), Unavailable."""
        if self._incoming is None:
            raise Refused("manager.request", "no bundle has been offered")
        return self._incoming.add(request)

    def next(self, target: str) -> Staged:
        """The bundle that has been sent, if it may follow; it has to be sent again afterwards.

        Raises BadInput (``bundle.*``, ``apply.*``), Refused (``manager.request``), Unavailable.
        """
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            raise Refused("manager.request", "no bundle has been sent")
        found = envelope.loads(incoming.whole())
        signed.require_signed(found, _SENT, self._keys)
        bundle, contents = signed.opened(found, _SENT)
        old, new = self.now.bundle, bundle
        require_continues(old, new)
        if new.manifest.target != target:
            raise BadInput(
                "bundle.wrong-target", f"the offered bundle was built for {new.manifest.target}, "
                f"and this hypervisor is {target}", f"build it again with --target {target}")
        if new.manifest.digest == old.manifest.digest:
            raise BadInput("apply.same", "the host has this very policy already",
                           "nothing has to be done")
        advanced(self._known, new)
        manager = new.policy.host.manager
        assert manager is not None  # it continues ours
        require_rights(contents.files["policy.bin"], new.manifest, manager)
        return Staged(bundle, contents.files["policy.bin"], b"")

    def back(self, new: Staged) -> bytes:
        """What has to be loaded to take ``new`` back: the enforced policy, which then knows the
        types that ``new`` has renamed."""
        also = renamed(self.now.bundle, new.bundle)
        return also_named(self.now.binary, also) if also else self.now.binary

    def begin(self, new: Staged, back: bytes, until: float) -> None:
        """``new`` has been loaded."""
        self.trial, self.now = Trial(self.now, back, until), new

    def returned(self) -> None:
        """The policy before has been loaded again."""
        if self.trial is not None:
            self.now, self.trial = self.trial.before, None

    def confirm(self, digest: object) -> None:
        """It has stood its test: no way back. Raises Refused (``manager.trial-over``)."""
        if digest != self.now.bundle.manifest.digest:
            raise Refused("manager.trial-over", "the policy that shall stay is not in force: its "
                          f"trial ended after {TRIAL:g} s, or it was never loaded")
        self._known = advanced(self._known, self.now.bundle)
        self.trial = None


def require_continues(old: Bundle, new: Bundle) -> None:
    """On a host with a manager, ``new`` is a later version of ``old``, for the same manager.

    Raises BadInput: ``apply.manager``, ``apply.another``, ``apply.not-live``.
    """
    manager = old.policy.host.manager
    if new.policy.host.manager != manager or manager is None or (
        new.manifest.labels[manager].context != old.manifest.labels[manager].context
    ):
        raise BadInput(
            "apply.manager", f"the domain that runs is the manager {manager}, and the new policy "
            f"has {'the manager ' + (new.policy.host.manager or 'none')} or its label in another "
            "level", "leave `manager` and its label as they are, or boot the host with the new "
            "policy")
    if new.policy.name != old.policy.name and new.policy.was != old.policy.name:
        raise BadInput(
            "apply.another", f"{new.policy.name} is another policy than {old.policy.name}, which "
            "the manager keeps", f"write `was: {old.policy.name}` under `policy:` if it goes on "
            "with it; else boot the host with it")
    if not all(one.policy.host.updates is Updates.LIVE for one in (old, new)):
        raise BadInput(
            "apply.not-live", "the new policy or the one in force is not live",
            "write `updates: live` under `host:`")


def require_labels(old: Bundle, new: Bundle, contexts: Iterable[str]) -> None:
    """Nobody who runs under ``old`` with one of ``contexts`` loses its label by ``new``.

    That `shype plan` has looked at it is dom0's word only.  Raises Refused (``apply.label-lost``).
    """
    now = {label.was or label.name: label.name for label in new.policy.guests}
    for context in contexts:
        label = old.manifest.label_of_context(context)
        if label == old.manifest.dom0.label:
            kept = new.manifest.dom0.context == context
        else:
            entry = None if label is None else new.manifest.labels.get(now.get(label, label))
            level = context.split(":", 3)[3]
            kept = label in new.policy.retired or (
                entry is not None and entry.context.split(":", 3)[3] == level)
        if not kept:
            raise Refused(
                "apply.label-lost", f"a domain with the context {context} runs, and would lose its "
                "label or its level", "list the label under `retired:`, or say what it is now by "
                "`was:`; or stop the VM")


def renamed(old: Bundle, new: Bundle) -> dict[str, str]:
    """Types of ``new`` that ``old`` knows by another name, and that name.

    A VM whose label has been renamed carries the new type: on the way back, the old policy,
    which never heard of it, is given it as one more name.
    """
    return {
        new.manifest.labels[label.name].type: old.manifest.labels[label.was].type
        for label in new.policy.guests
        if label.was is not None and label.was in old.manifest.labels
    }
