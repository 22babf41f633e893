"""A small Xen policy of the shape that Xen's reference policy has, in words of its own.

Domains see themselves as a type of their own, channels have the type of the
domain whose end they are, users keep apart what types would let together, a
boolean locks a domain against its manager, one label is only reached by
relabelling, and every domain may send Argo messages to every other.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from shype.compile.flask import tables

DOMAINS = ("dom0", "guest", "apart", "locked", "builder", "sealed", "model")
_OTHERS = ("xenboot", "xen", "domio", "domxen", "unlabeled", "security", "ioport", "iomem", "irq",
           "device")

_RULES = """
(typeattribute domains)
(typeattributeset domains (dom0_t guest_t apart_t locked_t builder_t sealed_t model_t))
(typeattribute ends)
(typeattributeset ends (dom0_ch guest_ch apart_ch locked_ch sealed_ch model_ch))

(allow domains domains (argo (send register_single_source)))
(allow domains xen_t (argo (enable register_any_source)))
(allow domains xen_t (version (xen_extraversion)))
(boolean chatty true)
(booleanif chatty (true (allow domains xen_t (xen (writeconsole)))))
(allow dom0_t xen_t (xen (readconsole)))
(allow xenboot_t dom0_t (domain (create)))

(typetransition builder_t domains event sealed_ch)
(allow builder_t sealed_t (domain (transition)))
(allow dom0_t builder_t (domain (create)))
(allow dom0_t builder_t (domain2 (relabelfrom)))
(allow dom0_t sealed_t (domain2 (relabelto)))
(allow dom0_t builder_t (mmu (map_read map_write)))
(allow dom0_t sealed_ch (event (create)))

(boolean closed false)
(booleanif closed
  (false (allow dom0_t locked_t (mmu (map_read map_write)))
         (allow dom0_t locked_t (domain (create)))))
(allow dom0_t guest_t (domain (create pause getdomaininfo)))
(allow dom0_t apart_t (domain (create)))
(allow dom0_t model_t (domain (create)))
(allow model_t guest_t (domain (set_target)))
(type guest_seen)
(roletype r guest_seen)
(typetransition guest_t model_t domain guest_seen)
(allow model_t guest_seen (mmu (map_read map_write)))

(type card_t)
(roletype r card_t)
(allow guest_t card_t (resource (use_iommu)))
(allow dom0_t card_t (resource (add_device use_iommu)))

(constrain (grant (map_read map_write copy))
  (or (or (eq u1 system) (eq u2 system)) (eq u1 u2)))
(constrain (grant (transfer)) (eq t1 dom0_t))
"""

#: Who shares event channels and grants with whom.
PAIRS = (("dom0", "guest"), ("dom0", "apart"), ("dom0", "locked"), ("dom0", "sealed"),
         ("guest", "guest"), ("guest", "locked"))


def cil(target: str = "xen-4.17") -> str:
    """The whole policy, for ``secilc -t xen -M false``."""
    table = tables.load(target)
    lines = ["(handleunknown deny)", "(mls false)"]
    lines += [f"(class {cls} ({' '.join(names)}))" for cls, names in table.classes.items()]
    lines += [
        f"(classorder ({' '.join(table.classes)}))",
        "(sensitivity s0)", "(sensitivityorder (s0))",
        "(role r)",
        *(f"(user {user})(userrole {user} r)(userlevel {user} (s0))"
          f"(userrange {user} ((s0)(s0)))" for user in ("system", "one", "two")),
        *(f"(type {name}_t)(roletype r {name}_t)" for name in (*DOMAINS, *_OTHERS)),
        *(f"(sid {sid})" for sid in table.initial_sids),
        f"(sidorder ({' '.join(table.initial_sids)}))",
    ]
    special = {"domU": "guest", "domDM": "model"}
    lines += [f"(sidcontext {sid} (system r {special.get(sid, sid)}_t ((s0)(s0))))"
              for sid in table.initial_sids]
    for name in DOMAINS:
        if name == "builder":
            continue
        own = f"{name}_self" if name != "dom0" else "dom0_t"
        lines += [f"(type {name}_ch)(roletype r {name}_ch)",
                  f"(typetransition {name}_t domains event {name}_ch)"]
        if name != "dom0":
            lines += [f"(type {own})(roletype r {own})",
                      f"(typetransition {name}_t {name}_t domain {own})"]
        lines += [f"(allow {name}_t {own} (mmu (map_read map_write)))",
                  f"(allow {name}_t {own} (grant (setup query)))"]
    for one, other in PAIRS:
        for source, sink in dict.fromkeys(((one, other), (other, one))):
            lines += [f"(allow {source}_t {source}_ch (event (create send status)))",
                      f"(allow {source}_ch {sink}_t (event (bind)))",
                      f"(allow {source}_t {sink}_t (grant (map_read map_write copy unmap)))"]
    lines += ["(allow guest_t locked_t (grant (transfer)))"]
    return "\n".join(lines) + _RULES


def compiled(folder: Path) -> Path:
    """The policy as a binary file in ``folder``."""
    (folder / "p.cil").write_text(cil())
    subprocess.run(
        ["secilc", "-t", "xen", "-M", "false", "-c", "30", "-f", "/dev/null", "-o", "p.bin",
         "p.cil"], cwd=folder, check=True,
    )
    return folder / "p.bin"
