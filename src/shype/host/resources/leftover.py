"""What a refused attach leaves in XenStore and in dom0, and its removal.

libxl leaves the nodes of the backend, the frontend and its own record; while the backend's node
is there, so is the interface pair or the open device.
"""

from __future__ import annotations

import contextlib

from shype.host.hypervisor import Backend, Hypervisor
from shype.host.store.store import StoreError

#: The frontend's name for each backend's kind.
_FRONTEND = {"vbd": "vbd", "qdisk": "vbd", "vif": "vif"}


def remove(hypervisor: Hypervisor, backend: Backend) -> None:
    """Take a device away from both sides at once; the kernel's backend goes with its node.

    Raises Unavailable (``host.no-xenstore``).
    """
    kind = _FRONTEND.get(backend.kind, backend.kind)
    place = f"{backend.domid}/device/{kind}/{backend.number}"
    with hypervisor.store() as store:
        for path in (
            f"/local/domain/0/backend/{backend.kind}/{backend.domid}/{backend.number}",
            f"/local/domain/{place}", f"/libxl/{place}",
        ):
            with contextlib.suppress(StoreError):  # it went by itself
                store.remove(path)
