"""The rule kinds, and the rules that do not depend on the policy's content.

Least privilege: a permission is here because an operation asked for it (an
AVC that started empty, one operation at a time, Xen 4.17, PV, PVH and HVM guests)
or because a named requirement needs it; its reason stands beside it and goes
into the CIL as a comment.  docs/reference/flask-encoding.md is generated from
these tuples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from shype.compile.flask.encoding import (
    ALL_LABELS,
    CHANNEL_TYPE,
    DOM0_TYPE,
    MANAGED,
    SELF_TYPE,
    sid_type,
)
from shype.compile.flask.tables import Tables
from shype.policy.mechanism import Mechanism


@dataclass(frozen=True, slots=True)
class Allow:
    """``source`` may use ``permissions`` of class ``cls`` on ``target``, and why.

    ``since``: the first release (major, minor) that asks for it, None for all.
    With ``audit_only`` nothing is granted: a refusal is expected and harmless
    and is not written to the hypervisor's console (a dontaudit rule).
    """

    source: str
    target: str
    cls: str
    permissions: tuple[str, ...]
    reason: str
    since: tuple[int, int] | None = None
    audit_only: bool = False

    def __str__(self) -> str:
        words = " ".join(self.permissions)
        kind = "dontaudit" if self.audit_only else "allow"
        return f"({kind} {self.source} {self.target} ({self.cls} ({words})))"


def applicable(rules: Iterable[Allow], tables: Tables) -> Iterator[Allow]:
    """The rules for this release.

    Raises `BadInput` (``target.unknown-permission``) if one names a class or
    permission that the release does not have: nothing is dropped in silence.
    """
    for rule in rules:
        if rule.since is not None and tables.version < rule.since:
            continue
        for permission in rule.permissions:
            tables.require(rule.cls, permission, str(rule))
        yield rule


def _allow(
    source: str, target: str, cls: str, permissions: str, reason: str,
    since: tuple[int, int] | None = None,
) -> Allow:
    return Allow(source, target, cls, tuple(permissions.split()), reason, since)


def _quiet(source: str, target: str, cls: str, permissions: str, reason: str) -> Allow:
    return Allow(source, target, cls, tuple(permissions.split()), reason, audit_only=True)


_XEN = sid_type("xen")
_SECURITY = sid_type("security")
_DEVICE = sid_type("device")
_IRQ = sid_type("irq")
_DOMXEN = sid_type("domxen")
_UNLABELED = sid_type("unlabeled")

#: The hypervisor starts dom0, and dom0 runs the host.
BOOT: tuple[Allow, ...] = (
    _allow(sid_type("xenboot"), DOM0_TYPE, "domain", "create",
           "the hypervisor builds dom0 with the initial SID xenboot"),
    _allow(DOM0_TYPE, DOM0_TYPE, "domain", "getdomaininfo", "`xl list` shows dom0 itself"),
    _allow(DOM0_TYPE, DOM0_TYPE, "event", "create bind send",
           "channels between dom0's own drivers, and a VM's end of its xenstore and console "
           "channels, which dom0 opens for it and which carry the type of their peer, dom0"),
    _allow(DOM0_TYPE, DOM0_TYPE, "grant", "setup query",
           "dom0's kernel sets up its own grant table"),
    _allow(DOM0_TYPE, DOM0_TYPE, "mmu",
           "map_read map_write updatemp pinpage mmuext_op exchange",
           "dom0's PV kernel manages its own page tables; exchange makes DMA buffers contiguous"),
    _allow(DOM0_TYPE, DOM0_TYPE, "mmu", "stat", "dom0's balloon driver asks for its own size"),
    _allow(DOM0_TYPE, DOM0_TYPE, "resource", "add",
           "dom0's kernel takes its interrupts"),
    _allow(DOM0_TYPE, _DEVICE, "resource",
           "add_irq setup plug use_noiommu use_iommu use_iommu_nointremap",
           "dom0's kernel finds its PCI devices and binds their interrupts; which use_ "
           "permission is asked for depends on the machine's IOMMU"),
    _allow(DOM0_TYPE, _IRQ, "resource",
           "add_irq setup use_noiommu use_iommu use_iommu_nointremap",
           "dom0's kernel binds physical interrupts; use_ as above"),
    _allow(DOM0_TYPE, _XEN, "mmu", "memorymap", "dom0's kernel reads the machine's memory map"),
    _allow(DOM0_TYPE, _XEN, "version",
           "xen_extraversion xen_compile_info xen_capabilities xen_changeset xen_pagesize "
           "xen_commandline xen_build_id", "`xl info`, libxl at start, /sys/hypervisor"),
    _allow(DOM0_TYPE, _XEN, "xen", "settime", "dom0 sets the wall clock"),
    _allow(DOM0_TYPE, _XEN, "xen", "firmware mca_op readapic",
           "dom0's kernel at boot: firmware data, machine checks, the IO-APIC"),
    _allow(DOM0_TYPE, _XEN, "resource", "setup",
           "dom0's kernel tells where PCI Express keeps its configuration space"),
    _allow(DOM0_TYPE, _XEN, "xen", "getcpuinfo physinfo cpupool_op getscheduler",
           "libxl asks for CPUs, memory, pool and scheduler before it builds a VM; `xl info`"),
    _allow(DOM0_TYPE, _XEN, "xen", "readconsole writeconsole",
           "`xl dmesg`, from which denials are read, and dom0's console output"),
    _allow(DOM0_TYPE, _XEN, "xen2", "get_cpu_featureset",
           "libxl computes a VM's CPUID policy"),
    _allow(DOM0_TYPE, _DOMXEN, "mmu", "map_read",
           "save and restore look at frames that the hypervisor owns"),
    _allow(DOM0_TYPE, _SECURITY, "security", "check_context",
           "libxl turns a label into a SID and back; `xl list -Z`"),
    _allow(DOM0_TYPE, _SECURITY, "security", "compute_av compute_create",
           "`shype verify` asks which decisions are loaded; asking changes none"),
    _quiet(DOM0_TYPE, _XEN, "argo", "enable",
           "asked for dom0 at its creation; dom0 takes no part in Argo"),
)

#: Every VM, on itself and on the hypervisor.
VM: tuple[Allow, ...] = (
    _allow(ALL_LABELS, SELF_TYPE, "mmu", "map_read map_write pinpage mmuext_op",
           "a PV kernel manages its own page tables"),
    _allow(ALL_LABELS, SELF_TYPE, "mmu", "adjust", "ballooning, as `xl mem-set` asks for it"),
    _allow(ALL_LABELS, SELF_TYPE, "mmu", "physmap",
           "a PVH kernel places shared info and grant frames"),
    _allow(ALL_LABELS, SELF_TYPE, "grant", "setup query", "the VM's own grant table"),
    _allow(ALL_LABELS, SELF_TYPE, "hvm", "getparam setparam",
           "a PVH kernel finds its xenstore and console pages and sets its callback"),
    _allow(ALL_LABELS, _XEN, "version", "xen_extraversion", "asked for by Linux at boot"),
    _allow(ALL_LABELS, _XEN, "version", "xen_guest_handle",
           "HVM: its firmware puts the VM's own UUID into its tables; nobody else's is told"),
    _allow(ALL_LABELS, SELF_TYPE, "domain2", "get_vnumainfo",
           "HVM: its firmware asks for the VM's own memory nodes"),
    _allow(ALL_LABELS, _XEN, "argo", "enable",
           "checked at every Argo call; by itself reaches nobody"),
    _quiet(ALL_LABELS, _XEN, "xen", "writeconsole",
           "a kernel tries the emergency console at boot and does without"),
    _quiet(ALL_LABELS, ALL_LABELS, "event", "send",
           "a VM could flood the hypervisor's console by notifying a peer it lost by a reload"),
)

#: Never refused, whatever a reload changed: giving memory back, seeing and ending a VM.
CLEANUP: tuple[Allow, ...] = (
    _allow(ALL_LABELS, ALL_LABELS, "grant", "unmap",
           "a refused unmap leaves the page mapped and pinned"),
    _allow(ALL_LABELS, _UNLABELED, "grant", "unmap",
           "the same, when the peer's label has been dropped by a reload"),
    _allow(DOM0_TYPE, ALL_LABELS, "grant", "unmap",
           "a refused unmap breaks dom0's backends"),
    _allow(DOM0_TYPE, _UNLABELED, "grant", "unmap", "the same, for a dropped label"),
    _allow(DOM0_TYPE, ALL_LABELS, "domain", "getdomaininfo",
           "dom0 sees every VM, also one it may not run any longer"),
    _allow(DOM0_TYPE, _UNLABELED, "domain", "getdomaininfo pause destroy",
           "without getdomaininfo a VM with a dropped label is invisible and cannot be destroyed"),
)

#: Nor this, but for the manager, which root must not be able to kill with a window open.
ENDING: tuple[Allow, ...] = (
    _allow(DOM0_TYPE, ALL_LABELS, "domain", "pause destroy",
           "dom0 ends every VM, also one it may not run any longer; but not the manager"),
)

#: dom0 and the VM labels it is authorised to run: what builds, saves and migrates a VM. Each of
#: these would let dom0 read or change what is inside. For a locked label they hold in its launch
#: window only (see `cil`), as `domain create` does for every label.
BUILD: tuple[Allow, ...] = (
    _allow(DOM0_TYPE, MANAGED, "domain", "max_vcpus setaffinity setdomainmaxmem",
           "create: size and placement of the VM"),
    _allow(DOM0_TYPE, MANAGED, "domain", "setvcpucontext setaddrsize",
           "create, PV: first register state, 32 or 64 bit"),
    _allow(DOM0_TYPE, MANAGED, "domain", "setpagingmempool", "create, PVH: memory for page tables"),
    _allow(DOM0_TYPE, MANAGED, "domain", "getvcpuinfo getvcpucontext", "save: register state"),
    _allow(DOM0_TYPE, MANAGED, "domain", "resume",
           "save: the VM goes on after `xl save -c` or when saving failed"),
    _allow(DOM0_TYPE, MANAGED, "domain", "shutdown",
           "save, HVM: libxl itself suspends a guest that has no PV drivers to ask"),
    _allow(DOM0_TYPE, MANAGED, "domain2",
           "resource_map set_cpu_policy setclaim settsc",
           "create: grant table frames, CPUID, memory claim, clock"),
    _allow(DOM0_TYPE, MANAGED, "domain2", "get_cpu_policy get_vnumainfo gettsc",
           "save: what restore has to set again"),
    _allow(DOM0_TYPE, MANAGED, "hvm", "sethvmc gethvmc setparam getparam",
           "create, save and restore, PVH: virtual hardware state"),
    _allow(DOM0_TYPE, MANAGED, "hvm", "altp2mhvm",
           "create, PVH: libxl sets the parameter, to \"disabled\" unless configured, and gives "
           "the VM up if it may not (using alternate views needs altp2mhvm_op, which nobody has)"),
    _allow(DOM0_TYPE, MANAGED, "hvm", "dm",
           "HVM: the device model in dom0 answers the VM's accesses to emulated devices and raises "
           "their interrupts"),
    _allow(DOM0_TYPE, MANAGED, "mmu", "map_read map_write adjust memorymap",
           "create: dom0 fills the VM's memory"),
    _allow(DOM0_TYPE, MANAGED, "mmu", "pinpage mmuext_op", "create, PV: first page tables"),
    _allow(DOM0_TYPE, MANAGED, "mmu", "pageinfo stat", "save and restore: page types, memory size"),
    _allow(DOM0_TYPE, MANAGED, "shadow", "logdirty",
           "migration: which pages the VM has written since they were sent"),
    _allow(DOM0_TYPE, MANAGED, "shadow", "disable", "save and migration: end that"),
)

#: dom0 and the same labels, locked or not: what runs a VM that has been built. `domain create`
#: is not here: see `cil`.
SERVE: tuple[Allow, ...] = (
    _allow(DOM0_TYPE, MANAGED, "domain", "unpause", "create and `xl unpause`: let it run"),
    _allow(DOM0_TYPE, MANAGED, "domain", "getaddrsize",
           "create, save and `xl block-attach`, PV: 32 or 64 bit"),
    _allow(DOM0_TYPE, MANAGED, "domain", "getscheduler",
           "create, and to see that a quota's share of the processor still holds"),
    _allow(DOM0_TYPE, MANAGED, "domain2", "setscheduler",
           "create: weight; a quota's share, which is put back when it was changed. It takes "
           "nothing out of a VM: dom0 may pause it anyway"),
    _allow(DOM0_TYPE, MANAGED, "grant", "map_read map_write",
           "xenstore, console and block backends map the VM's rings and buffers"),
    _allow(DOM0_TYPE, MANAGED, "grant", "copy",
           "network backend: packets to the VM (data source dom0)"),
    _allow(MANAGED, DOM0_TYPE, "grant", "copy",
           "network backend: packets from the VM (data source the VM); copy is checked from "
           "source to sink whoever issues it"),
    _allow(DOM0_TYPE, CHANNEL_TYPE, "event", "create send status",
           "dom0's end of a channel to a VM: xenstore, console, backends"),
    _allow(CHANNEL_TYPE, MANAGED, "event", "bind", "that end may be bound to the VM"),
    _allow(MANAGED, DOM0_TYPE, "event", "create send",
           "the VM's end of a channel to dom0, which carries the type of its peer"),
    _allow(DOM0_TYPE, MANAGED, "domain2", "get_domain_state",
           "xenstored of 4.21 and later learns by it that a VM has ended", since=(4, 21)),
    _allow(DOM0_TYPE, DOM0_TYPE, "domain2", "get_domain_state",
           "the same call, for dom0 itself", since=(4, 21)),
)



def on(target: str, group: Iterable[Allow]) -> tuple[Allow, ...]:
    """The rules of ``group`` on one type or attribute in the place of their own target."""
    return tuple(replace(rule, target=target) for rule in group)


def monitor(subject: str) -> tuple[Allow, ...]:
    """What makes ``subject`` the reference monitor: dom0, or the manager (`encoding.monitor`)."""
    return (
        _allow(subject, _SECURITY, "security", "setbool",
               "the reference monitor opens and closes launch windows and keeps the running set"),
    )


def manager(subject: str) -> tuple[Allow, ...]:
    """What the manager needs besides, to decide by what the hypervisor itself says."""
    sees = "the manager asks the hypervisor who runs"
    return (
        *monitor(subject),
        _allow(subject, _SECURITY, "security", "check_context",
               "the manager asks for the label behind a domain's SID"),
        *(_allow(subject, target, "domain", "getdomaininfo", sees)
          for target in (DOM0_TYPE, ALL_LABELS, SELF_TYPE, _UNLABELED)),
    )


def sharing(attribute: str, mechanism: Mechanism) -> tuple[Allow, ...]:
    """What ordinary labels of one coalition may do with each other (simple type enforcement).

    Where the policy has levels, the constraints of `constraining` take from it.
    """
    return tuple(
        _allow(attribute, attribute, mechanism, permissions, reason)
        for permissions, reason in _SHARING.get(mechanism, ())
    )


_SHARING: Mapping[Mechanism, tuple[tuple[str, str], ...]] = MappingProxyType({
    Mechanism.EVENT: ((
        "create send bind",
        "event channels in the coalition: a channel carries the type of the remote VM, "
        "so create and send are from VM to VM and bind from that type to itself"),),
    Mechanism.GRANT: ((
        "map_read map_write copy",
        "shared memory in the coalition (unmap is granted to everyone)"),),
    Mechanism.ARGO: ((
        "register_single_source send",
        "Argo in the coalition; register_any_source would admit everyone"),),
})
