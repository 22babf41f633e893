"""What the lab is made of: the names, versions and options that the build follows.

Each stage hashes its part of this module, so that a change here rebuilds what
depends on it and nothing else.
"""

from __future__ import annotations

#: Debian release of hypervisor source, dom0 user space and kernels; has Xen 4.17.
RELEASE = "bookworm"
TARGET = "xen-4.17"
SOURCE_PACKAGE = "xen"
KERNEL_META = "linux-image-amd64"

#: Added to Xen's default configuration.  No built-in policy: the policy is a boot module.
#: ARGO needs UNSUPPORTED, which needs EXPERT.
XEN_CONFIG = """\
CONFIG_EXPERT=y
CONFIG_UNSUPPORTED=y
CONFIG_XSM=y
CONFIG_XSM_FLASK=y
CONFIG_XSM_FLASK_AVC_STATS=y
# CONFIG_XSM_FLASK_POLICY is not set
CONFIG_XSM_SILO=y
CONFIG_ARGO=y
"""
#: Must all be set in the configuration that results, or the lab would not be what it says.
XEN_MUST = ("CONFIG_XSM_FLASK=y", "CONFIG_XSM_SILO=y", "CONFIG_ARGO=y")
#: FLASK's tables in the hypervisor's source, and its version.
XEN_TABLES = (
    "xen/Makefile", "xen/xsm/flask/policy/security_classes",
    "xen/xsm/flask/policy/initial_sids", "xen/xsm/flask/policy/access_vectors",
)

PACKAGES = (
    "bridge-utils", "busybox-static", "e2fsprogs", "ethtool", "iproute2", "kmod",
    "libpython3-stdlib", "nftables", "open-iscsi", "openssh-client", "openssh-server", "procps",
    "python3-cryptography", "python3-minimal", "python3-tpm2-pytss", "qemu-system-xen",
    "qemu-utils", "swtpm", "util-linux", "xen-utils-4.17", "xenstore-utils",
)
#: The packages whose exact versions make a new dom0 image.
VERSIONED = ("base-files", "libc6", "python3.11-minimal", "xen-utils-4.17")
#: Not unpacked into dom0.
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
#: Time stamp of files made by the build (any constant will do).
EPOCH = 1_700_000_000

#: Kernel modules, loaded in this order after those they depend on.
DOM0_MODULES = (
    "virtio_pci", "virtio_blk", "crc32c_generic", "crc32c-intel", "ext4", "virtio_console",
    "virtio_net", "xenfs", "xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc",
    "xen-netback", "xen-blkback", "loop", "bridge", "8021q", "nf_tables", "nft_meta_bridge",
    "nft_reject_bridge", "veth", "dm_mod",
)
#: In dom0's image, not loaded at its boot: an iSCSI target and initiator, PCI passthrough
#: (its front end is for a guest), Xen's watchdog, traffic control.
SPARE_MODULES = ("sd_mod", "target_core_file", "iscsi_target_mod", "iscsi_tcp", "xen-pciback",
                 "xen-pcifront", "xen_wdt",
                 "sch_tbf", "sch_ingress", "cls_matchall", "act_police")
GUEST_MODULES = (
    "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xen-blkfront", "xen-netfront",
)
#: In the guests' RAM disk, not loaded at their boot: a TPM that a program of the guest serves.
SPARE_GUEST_MODULES = ("tpm_vtpm_proxy",)

IMAGE_MIB = 1_200
#: Fixed, so that the payload can be exchanged behind a restored machine.
PAYLOAD_MIB = 64
#: Free space that the first build needs.
DISK_MIB = 4_000
