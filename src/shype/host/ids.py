"""Ids of what only the host decides; docs/reference/host-commands.md explains each."""

from __future__ import annotations

from enum import StrEnum


class HostId(StrEnum):
    """Why the agent or the hypervisor refused. Stable: programs may match on the values."""

    LABEL_NONE = "label.none"
    LABEL_RELABEL = "label.relabel"
    LABEL_DEVICE_MODEL = "label.device-model"
    LABEL_HVM = "label.locked-hvm"
    LABEL_CHANGED = "label.changed"
    DISK_TWO_LABELS = "disk.two-labels"
    DISK_RELABELLED = "disk.relabelled"
    DISK_WIPING = "disk.wiping"
    DISK_EXCHANGEABLE = "disk.exchangeable"
    DEVICE_SCRIPT = "device.script"
    DEVICE_BACKEND = "device.backend"
    DEVICE_FORBIDDEN = "device.forbidden"
    IMAGE_MISMATCH = "image.mismatch"
    IMAGE_UNKNOWN = "image.unknown"
    CREATE_UNLABELLED = "create.unlabelled"
    CREATE_NO_WINDOW = "create.no-window"
    CREATE_FOREIGN = "create.foreign-context"
    SECURITY_LOCKED = "security.locked"
    NOT_GRANTED = "avc.not-granted"
    GARBLED = "avc.garbled"
    QUOTA_EXCEEDED = "quota.exceeded"
    QUOTA_RESERVED = "quota.reserved"
    VECTOR_RESIDENTS = "vector.residents"
    ATTESTED_NONE = "attested.none"
    ATTESTED_EXPIRED = "attested.expired"
    ATTESTED_UNTRUSTED = "attested.untrusted"
    ATTESTED_POLICY = "attested.other-policy"
    PEER_UNATTESTED = "peer.unattested"
    VTPM_OWNER = "vtpm.owner"
    VTPM_STAYS = "vtpm.stays"
    FRAME_NAME = "frame.not-own"
    FRAME_KIND = "frame.kind"
    FRAME_STRANGER = "frame.stranger"
