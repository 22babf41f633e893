"""What the hypervisor must enforce for a policy, stated a second time.

Translation validation compares the compiled binary with this. It is written
from Xen's hooks (xen/xsm/flask/hooks.c: which permission each operation asks
for, of whom on whom) and from the decision code, and shares no table with
`rules`: a mistake has to be made twice, in the same way, to go unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from shype.decision.operation import Operation
from shype.policy.mechanism import Mechanism
from shype.policy.model import ResourceKind

#: Permissions by class.
Grants = Mapping[str, frozenset[str]]
#: Adds (subjects, targets, permissions) to a matrix; the first two are masks.
Put = Callable[[int, int, Grants], None]

#: The mechanism that each class of operations on another domain belongs to.
MECHANISM_OF: Mapping[str, Mechanism] = MappingProxyType({
    "event": Mechanism.EVENT,
    "grant": Mechanism.GRANT,
    "argo": Mechanism.ARGO,
    "mmu": Mechanism.FOREIGN,
    "domain": Mechanism.CONTROL,
    "domain2": Mechanism.CONTROL,
    "hvm": Mechanism.CONTROL,
    "shadow": Mechanism.CONTROL,
    "resource": Mechanism.CONTROL,
    "shype": Mechanism.DISK,
})


#: The operation that stands for each mechanism where levels play no part.
ASKS: Mapping[Mechanism, Operation] = MappingProxyType({
    Mechanism.EVENT: Operation.EVENT_SEND,
    Mechanism.GRANT: Operation.MAP_WRITE,
    Mechanism.ARGO: Operation.ARGO_SEND,
    Mechanism.FOREIGN: Operation.FOREIGN_MAP,
    Mechanism.CONTROL: Operation.CONTROL,
})
#: The same for a VM that acts on dom0, whose memory it never maps.
ASKS_UP: Mapping[Mechanism, Operation] = MappingProxyType({
    Mechanism.GRANT: Operation.COPY_TO,
})


def _grants(**classes: str) -> Grants:
    return MappingProxyType({name: frozenset(words.split()) for name, words in classes.items()})


#: Between VMs: the permission that each operation asks for, and whether of the one who acts
#: on the other (else of the other on the one who acts). GNTTABOP_map_grant_ref: map_read,
#: map_write; GNTTABOP_copy: from data source to data sink, whoever issues it; Argo: the owner
#: of a ring registers it for one sender, and the sender sends.
BETWEEN_VMS: tuple[tuple[Operation, str, str, bool], ...] = (
    (Operation.MAP_READ, "grant", "map_read", True),
    (Operation.MAP_WRITE, "grant", "map_write", True),
    (Operation.COPY_TO, "grant", "copy", True),
    (Operation.COPY_FROM, "grant", "copy", False),
    (Operation.ARGO_SEND, "argo", "send", True),
    (Operation.ARGO_SEND, "argo", "register_single_source", False),
)

#: Event channels between VMs. EVTCHNOP_alloc_unbound and bind_interdomain: create and
#: bind; EVTCHNOP_send: send. Whose type they are asked for is in `wanted`.
OPEN = _grants(event="create")
NOTIFY = _grants(event="send")
OPEN_AND_NOTIFY = _grants(event="create send")
BIND = _grants(event="bind")

#: No VM may do these to another: there is no rule for them.
NEVER_BETWEEN_VMS = (Operation.FOREIGN_MAP, Operation.CONTROL)
IMPOSSIBLE = _grants(domain="(no rule exists)")

#: dom0 on a VM that it may run. Its event channels have a type of their own (see below);
#: on the VM's type it has nothing of class event. `domain create` is checked by itself.
DOM0_ON_VM: Mapping[Mechanism, Grants] = MappingProxyType({
    Mechanism.EVENT: _grants(),
    Mechanism.GRANT: _grants(grant="map_read map_write copy"),
    Mechanism.ARGO: _grants(),
    Mechanism.FOREIGN: _grants(
        mmu="map_read map_write adjust memorymap pinpage mmuext_op pageinfo stat"
    ),
    Mechanism.CONTROL: _grants(
        domain="max_vcpus setaffinity setdomainmaxmem getscheduler setvcpucontext setaddrsize "
        "getaddrsize setpagingmempool unpause getvcpuinfo getvcpucontext resume "
        "shutdown",
        domain2="resource_map set_cpu_policy get_cpu_policy setclaim setscheduler settsc gettsc "
        "get_vnumainfo get_domain_state",
        hvm="sethvmc gethvmc setparam getparam altp2mhvm dm",
        shadow="disable logdirty",
    ),
})

#: dom0 on a VM of a locked label once it is built: let it run, 32 or 64 bit, and its share of the
#: processor. All else of what it may do to its memory, registers and virtual hardware is in the
#: launch window only.
DOM0_ON_LOCKED: Mapping[Mechanism, Grants] = MappingProxyType({
    **DOM0_ON_VM,
    Mechanism.FOREIGN: _grants(),
    Mechanism.CONTROL: _grants(domain="unpause getaddrsize getscheduler",
                               domain2="get_domain_state setscheduler"),
})

#: A VM that dom0 may run, on dom0: split drivers. Its end of a channel carries dom0's type.
VM_ON_DOM0: Mapping[Mechanism, Grants] = MappingProxyType({
    Mechanism.EVENT: _grants(event="create send"),
    Mechanism.GRANT: _grants(grant="copy"),
    Mechanism.ARGO: _grants(),
    Mechanism.FOREIGN: _grants(),
    Mechanism.CONTROL: _grants(),
})

#: dom0 on its own ends of channels to VMs, and those ends on the VM.
DOM0_ON_CHANNEL = _grants(event="create send status")
CHANNEL_ON_VM = _grants(event="bind")

#: Never refused, whatever the labels: giving memory back, seeing and ending a VM.
VM_CLEANUP = _grants(grant="unmap")
DOM0_CLEANUP = _grants(grant="unmap", domain="getdomaininfo")
DOM0_ENDS = _grants(domain="pause destroy")

#: A VM on itself, and on the hypervisor.
VM_ON_ITSELF = _grants(
    mmu="map_read map_write pinpage mmuext_op adjust physmap",
    grant="setup query",
    hvm="getparam setparam",
    domain2="get_vnumainfo",
)
VM_ON_XEN = _grants(version="xen_extraversion xen_guest_handle", argo="enable")

#: dom0 on itself, on the hypervisor, and on the machine; by type of the target.
DOM0_ON_HOST: Mapping[str, Grants] = MappingProxyType({
    "dom0": _grants(
        domain="getdomaininfo",
        domain2="get_domain_state",
        event="create bind send",
        grant="setup query",
        mmu="map_read map_write updatemp pinpage mmuext_op exchange stat",
        resource="add",
    ),
    "xen": _grants(
        mmu="memorymap",
        version="xen_extraversion xen_compile_info xen_capabilities xen_changeset "
        "xen_pagesize xen_commandline xen_build_id",
        xen="settime firmware mca_op readapic getcpuinfo physinfo cpupool_op getscheduler "
        "readconsole writeconsole",
        xen2="get_cpu_featureset",
        resource="setup",
    ),
    "device": _grants(
        resource="add_irq setup plug use_noiommu use_iommu use_iommu_nointremap"
    ),
    "irq": _grants(resource="add_irq setup use_noiommu use_iommu use_iommu_nointremap"),
    "domxen": _grants(mmu="map_read"),
    # Asking what the hypervisor would decide: FLASK_ACCESS and FLASK_CREATE.
    "security": _grants(security="check_context compute_av compute_create"),
})

#: Who opens windows: dom0, or the manager. FLASK_SETBOOL and FLASK_COMMITBOOLS.
MONITOR_ON_SECURITY = _grants(security="setbool")
#: The manager besides: XEN_SYSCTL_getdomaininfolist (whoever it may not see is left out) and
#: FLASK_SID_TO_CONTEXT.
KEEPER_ON_SECURITY = _grants(security="check_context")
MANAGER_ON_DOMAINS = _grants(domain="getdomaininfo")

#: A VM on hardware that it may use. An IOMMU that remaps interrupts asks for use_iommu; a
#: PCI device is given to nobody without one.
VM_ON_RESOURCE: Mapping[ResourceKind, Grants] = MappingProxyType({
    ResourceKind.PCI: _grants(resource="use_iommu"),
    ResourceKind.IRQ: _grants(resource="use_iommu use_iommu_nointremap use_noiommu"),
    ResourceKind.IOPORT: _grants(resource="use_iommu use_iommu_nointremap use_noiommu"),
    ResourceKind.MEMORY: _grants(resource="use_iommu use_iommu_nointremap use_noiommu"),
})

#: dom0 on labelled hardware: what its kernel asks for at boot, of whatever is there
#: (flask_resource_setup_pci(), flask_map_domain_irq() and others) ...
DOM0_AT_BOOT: Mapping[ResourceKind, Grants] = MappingProxyType({
    ResourceKind.PCI: DOM0_ON_HOST["device"],
    ResourceKind.IRQ: DOM0_ON_HOST["irq"],
    ResourceKind.IOPORT: _grants(),
    ResourceKind.MEMORY: _grants(),
})

#: ... and to give to a VM what that VM may use (flask_assign_device(), flask_test_assign_device(),
#: flask_unmap_domain_irq(), flask_ioport_permission(), flask_iomem_permission()).
DOM0_GIVES: Mapping[ResourceKind, Grants] = MappingProxyType({
    ResourceKind.PCI: _grants(resource="add_device remove_device stat_device remove_irq"),
    ResourceKind.IRQ: _grants(resource="remove_irq"),
    ResourceKind.IOPORT: _grants(resource="add_ioport remove_ioport"),
    ResourceKind.MEMORY: _grants(resource="add_iomem remove_iomem"),
})
DOM0_GIVES_TO_VM = _grants(resource="add remove")
#: A PCI device that some VM may use is in quarantine (the hypervisor's DOMID_IO) between two VMs.
QUARANTINE_ON_PCI = _grants(resource="use_iommu")
#: A VM that may have a PCI device, on itself: DMA buffers.
PCI_USER_ON_ITSELF = _grants(mmu="exchange")
DOM0_ON_QUARANTINE = DOM0_GIVES_TO_VM

#: Classes that the hypervisor does not know and that are there for object managers: it answers
#: their questions (FLASK_ACCESS) by the number of a class, which has to be a new one.
OBJECT_CLASSES: Mapping[str, tuple[str, ...]] = MappingProxyType({"shype": ("read", "write")})
#: What a VM may do with an object that carries a label: as with a disk of that label's VM.
ON_OBJECTS: tuple[tuple[Operation, str, str], ...] = (
    (Operation.DISK_READ, "shype", "read"),
    (Operation.DISK_WRITE, "shype", "write"),
)
#: An object manager asks: FLASK_ACCESS, FLASK_CONTEXT_TO_SID, FLASK_SID_TO_CONTEXT.
MANAGER_ON_SECURITY = _grants(security="check_context compute_av")

#: The hypervisor builds dom0.
BOOT_ON_DOM0 = _grants(domain="create")

