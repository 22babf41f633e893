"""Is this host fit to enforce? Asked before every launch: libxl itself fails open.

On a Xen without FLASK, ``xl create`` starts a labelled VM unlabelled with only
a warning, so the agent must insist.
"""

from __future__ import annotations

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.census import wrong_policy
from shype.host.store.lockdown import require_locked
from shype.policy.model import Enforcement


def require_policy(agent: Agent) -> None:
    """The hypervisor has FLASK and the bundle's policy, booleans included.

    Raises Unavailable: ``host.no-flask`` or ``host.wrong-policy``.
    """
    if agent.hypervisor.enforcement() is Enforcement.NONE:
        raise Unavailable(
            "host.no-flask",
            "this hypervisor has no FLASK, so nothing would enforce the policy; VMs would start "
            "without labels",
            "boot a Xen built with CONFIG_XSM_FLASK (Debian's is not), with flask=enforcing",
        )
    names = agent.manifest.booleans
    for name in (names.digest, names.enable, *names.bits, *names.running.values(),
                 *names.flags):
        if agent.hypervisor.boolean(name) is None:
            raise wrong_policy(agent)


def require_enforcing(agent: Agent) -> None:
    """The hypervisor enforces, and no guest can open its part of XenStore to others.

    Raises Unavailable: ``host.not-enforcing``, ``host.xenstore-open``, ``host.no-xenstore``.
    """
    if agent.hypervisor.enforcement() is not Enforcement.ENFORCING:
        raise Unavailable(
            "host.not-enforcing",
            "FLASK is permissive on this host: it logs denials and permits everything",
            "boot Xen with flask=enforcing",
        )
    with agent.hypervisor.store() as store:
        require_locked(store)
