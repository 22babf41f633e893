"""Does a compiled policy leave the manager its rights, and dom0 without them?  Asked before it is
loaded: afterwards a manager without them could not even take it back."""

from __future__ import annotations

from shype.base.errors import BadInput
from shype.host.verify.access import Answers
from shype.host.verify.binary import read
from shype.policy.manifest import Manifest
from shype.policy.names import LabelName

#: The type of FLASK itself.
_SECURITY = "security_t"
#: What belongs to the reference monitor; and nobody switches FLASK off, or weakens it.
_MONITORS = frozenset({"setbool", "load_policy"})
_NOBODYS = frozenset({"setenforce", "setsecparam", "add_ocontext", "del_ocontext"})


def require_rights(binary: bytes, manifest: Manifest, manager: LabelName) -> None:
    """``binary`` is the one that ``manifest`` describes, and keeps who monitors.

    Raises BadInput (``bundle.unreadable``, ``bundle.not-it``, ``apply.rights``).
    """
    policy = read(binary)
    if manifest.booleans.digest not in policy.booleans:
        raise BadInput(
            "bundle.not-it", "policy.bin does not carry the digest of the bundle's manifest",
            "build the bundle again")
    context = manifest.labels[manager].context
    flask = next(sid for sid in policy.sids if policy.primary[sid.type] == _SECURITY)
    for value in (False, True):
        answers = Answers(policy, dict.fromkeys(policy.booleans, value))
        names = policy.classes["security"].names
        dom0, own = (names(answers.allowed(who, answers.text(flask), "security"))
                     for who in (manifest.dom0.context, context))
        lost = (_MONITORS if value else _MONITORS - {"load_policy"}) - own
        if lost or dom0 & (_MONITORS | _NOBODYS) or own & _NOBODYS:
            raise BadInput(
                "apply.rights", "the compiled policy takes the right to set booleans or to load a "
                "policy from the manager, or gives it to dom0, whatever its source says",
                "build the bundle again with `shype build`, which validates it")
