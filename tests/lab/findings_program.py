"""Runs in dom0: the experiments of docs/findings, with guests that run already.

``python3 -c PROGRAM SET``, SET one of the functions in `SETS`.  Prints one JSON object.  One
process for a whole set: under emulation a Python that starts takes as long as an experiment.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import secrets
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from shype.lab.dom0.experiment import MECHANISMS, experiment
from shype.lab.dom0.guestctl import Guest, connected

Report = dict[str, Any]
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.-"
#: Without Argo: for guests that are PV.
PV_MECHANISMS = tuple(name for name in MECHANISMS if name != "argo")
HYPERCALL = 48 << 16 | ord("P") << 8  # IOCTL_PRIVCMD_HYPERCALL
DOMCTL = 36
DOMCTL_VERSION = 0x15
#: Operations of include/public/domctl.h in Xen 4.17.
SOFT_RESET_CONT, BROKEN_PAGE, SET_VNUMA = 23, 67, 74
#: Enough to push everything older out of Xen's ring of messages.
FLOOD = 400
BITS = 64
#: More than libxl lets a guest have (1,023).
PLANTED = 1100
#: Access checks that the sender makes for a 1; others made about 30 meanwhile.
CHECKS = 5000


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=240)


def ask(guest: Guest, op: str, *args: str | int) -> Report:
    """One answer of a probe, as the report keeps it."""
    answer = guest.ask(op, *args, timeout=120)
    return {name: value for name, value in answer.members.items() if name not in ("id", "op")}


def offer(owner: Guest, peer: Guest, mode: str, text: str) -> int:
    return owner.ask("grant_offer", peer.domid, mode, text, timeout=120).number("gref")


def compose(author: Guest, source: Guest, target: Guest) -> Report:
    """``author`` brings a text into a page of ``target`` by copies out of a page of ``source``.

    First the plain way, by which the policy is meant to decide.
    """
    letters = offer(source, author, "ro", ALPHABET)
    inbox = offer(target, author, "rw", "-")
    token = f"{author.name}.{secrets.token_hex(8)}"
    plain = ask(author, "grant_copy", target.domid, inbox, "to", token)
    piecewise = ask(author, "grant_compose", source.domid, letters, target.domid, inbox, token)
    return {"sent": token, "plain": plain, "compose": piecewise,
            "arrived": ask(target, "grant_read", inbox)["written"]}


def together(*calls: Callable[[], Report]) -> list[Report]:
    """The results of calls made at the same time."""
    results: list[Report] = [{} for _ in calls]

    def call(number: int) -> None:
        results[number] = calls[number]()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def grant_status(high: Guest, low: Guest) -> Report:
    """Bits from ``high`` to ``low`` by mapping, for reading, what ``low`` granted for reading."""
    zero, one, ack = (offer(low, high, "ro", "-") for _ in range(3))
    bits = f"{secrets.randbits(BITS):0{BITS}b}"
    heard, sent = together(
        lambda: ask(low, "grant_listen", zero, one, ack, BITS),
        lambda: ask(high, "grant_signal", low.domid, zero, one, ack, bits),
    )
    return {"sent": bits, "sender": sent, "listener": heard}


def lookups(sender: Guest, reader: Guest) -> Report:
    """Bits by the number of access checks that FLASK has made, which any guest may read.

    This program says when a bit begins and ends, as a clock would.
    """
    bits, counts = f"{secrets.randbits(BITS // 8):0{BITS // 8}b}", []
    for bit in bits:
        before = ask(reader, "flask_facts")["avc_lookups"]
        ask(sender, "lookups_send", 0, 0, CHECKS, bit)
        counts.append(ask(reader, "flask_facts")["avc_lookups"] - before)
    read = "".join("1" if count > CHECKS * 2 / 3 else "0" for count in counts)
    return {"sent": bits, "read": read, "counts": counts}


def transit(owner: Guest, relay: Guest, reader: Guest) -> Report:
    """``reader`` copies a page of ``owner`` that ``relay`` passes on and may not read itself."""
    secret = f"{owner.name}.{secrets.token_hex(8)}"
    theirs = offer(owner, relay, "ro", secret)
    passed = offer(relay, reader, "ro", "-")
    direct = offer(owner, reader, "ro", secret)
    return {
        "sent": secret,
        "reader_direct": ask(reader, "grant_copy", owner.domid, direct, "from"),
        "relay_direct": ask(relay, "grant_copy", owner.domid, theirs, "from"),
        "transit": ask(relay, "grant_transit", passed, owner.domid, theirs),
        "copy": ask(reader, "grant_copy", relay.domid, passed, "from"),
    }


def attempts(a: Guest, b: Guest, mechanisms: Sequence[str]) -> dict[str, str]:
    """What happens when ``a`` tries to reach ``b``."""
    return {name: experiment(a, b, name).result for name in mechanisms}


def hypercall(number: int, argument: bytes | ctypes.Array[ctypes.c_char]) -> int:
    """0 or a negative errno."""
    buffer = (argument if isinstance(argument, ctypes.Array)
              else ctypes.create_string_buffer(argument, len(argument)))
    request = struct.pack("<6Q", number, ctypes.addressof(buffer), 0, 0, 0, 0)
    device = os.open("/dev/xen/privcmd", os.O_RDWR)
    try:
        fcntl.ioctl(device, HYPERCALL, request)
        return 0
    except OSError as error:
        return -(error.errno or 1)
    finally:
        os.close(device)


def domctl(command: int, domid: int, body: bytes = b"") -> int:
    head = struct.pack("<IIHHHH", command, DOMCTL_VERSION, domid, 0, 0, 0)
    return hypercall(DOMCTL, head + body.ljust(128, b"\0"))


def set_vnuma(domid: int) -> int:
    """Tell a domain with one VCPU of one virtual node."""
    arrays = ctypes.create_string_buffer(64)
    struct.pack_into("<III", arrays, 0, 10, 0, 0)  # distance, node of the VCPU, physical node
    struct.pack_into("<QQII", arrays, 16, 0, 64 << 20, 0, 0)  # range of memory
    base = ctypes.addressof(arrays)
    return domctl(SET_VNUMA, domid, struct.pack("<4I4Q", 1, 1, 1, 0, base, base + 4, base + 8,
                                                base + 16))


def denials(text: str) -> int:
    return text.count("avc:  denied")


def log() -> str:
    return run("xl", "dmesg").stdout


def protected() -> Report:
    """A VM of prot_domU_t in Xen's reference policy: started, and then locked."""
    started = run("xl", "create", "/etc/xen/vms/prot.cfg")
    seen = "prot " in run("xl", "list").stdout
    run("flask-set-bool", "prot_doms_locked", "1")
    hidden = "prot " not in run("xl", "list").stdout
    destroyed = run("xl", "destroy", "prot").returncode
    run("flask-set-bool", "prot_doms_locked", "0")
    back = "prot " in run("xl", "list").stdout
    run("xl", "destroy", "prot")
    return {"create": started.returncode, "err": started.stderr[-600:], "seen": seen,
            "hidden": hidden, "destroy_locked": destroyed, "back": back}


def reference() -> Report:
    """Xen's own policy; ``iso`` is a PV guest of isolated_domU_t, ``dom`` PVH of domU_t."""
    with connected(["iso", "dom"]) as (iso, dom):
        report: Report = {
            "to_dom": attempts(iso, dom, MECHANISMS),
            "to_iso": attempts(dom, iso, PV_MECHANISMS),
            "compose_to_dom": compose(iso, dom, dom),
            "compose_to_iso": compose(dom, iso, iso),
            "lookups": lookups(dom, iso),
            "facts": ask(iso, "flask_facts"), "booleans": ask(iso, "bool_list"),
            "seen": {"dom": ask(iso, "event_status", dom.domid, 64),
                     "dom0": ask(iso, "event_status", 0, 64)},
            "absent": ask(iso, "event_offer", 77), "present": ask(iso, "event_offer", dom.domid),
        }
        report["soft_reset_cont"] = domctl(SOFT_RESET_CONT, dom.domid)
        report["broken_page"] = domctl(BROKEN_PAGE, dom.domid)
        report["protected"] = protected()
        before = log()
        report["unpause"] = [line for line in before.splitlines()
                             if "unpause" in line and "prot_domU_t" in line]
        report["unknown"] = [line for line in before.splitlines() if "unknown domctl" in line]
        flood = ask(iso, "bench_map", dom.domid, 8, FLOOD)
        after = log()
        report["flood"] = {"failed": flood["failed"], "ring_before": len(before.splitlines()),
                           "ring_after": len(after.splitlines()),
                           "evidence_before": "tclass=event" in before,
                           "evidence_after": "tclass=event" in after}
        run("xl", "dmesg", "-c")
        run("xl", "setenforce", "0")
        free = ask(iso, "bench_map", dom.domid, 8, 20)
        run("xl", "setenforce", "1")
        report["permissive"] = {"failed": free["failed"], "denials": denials(log())}
    return report


def levels() -> Report:
    """A policy of two levels; ``low-b`` and ``high`` are plain, ``low-a`` has grants of version 2.

    Ends with the next policy (/run/next.bin), under which low-a and low-b share nothing.
    """
    with connected(["low-a", "low-b", "high"]) as (low_a, low_b, high):
        report: Report = {
            "booleans": ask(low_b, "bool_list"),
            "down": attempts(high, low_b, PV_MECHANISMS),
            "status": grant_status(high, low_b),
            "compose": compose(high, low_a, low_b),
            "transit": transit(high, low_a, low_b),
        }
        report["seen"] = {"high": ask(low_b, "event_status", high.domid, 64),
                          "dom0": ask(low_b, "event_status", 0, 64)}
        report["plant_dom0"] = ask(low_b, "event_plant", 0, low_b.domid, 1)
        gref = offer(low_a, low_b, "ro", "mapped under the old policy")
        report["kept_before"] = [ask(low_b, "grant_keep", low_a.domid, gref),
                                 ask(low_b, "grant_kept")]
        report["load"] = run("xl", "loadpolicy", "/run/next.bin").returncode
        report["kept_after"] = ask(low_b, "grant_kept")
        again = offer(low_a, low_b, "ro", "offered under the new policy")
        report["new_copy"] = ask(low_b, "grant_copy", low_a.domid, again, "from")
        report["set_vnuma"] = set_vnuma(low_b.domid)
        # last: low-a can open no channel afterwards
        before = ask(low_a, "event_offer", 0)
        report["plant"] = {"before": before, "plant": ask(low_b, "event_plant", low_a.domid,
                                                         low_b.domid, PLANTED),
                           "after": ask(low_a, "event_offer", 0)}
        saved = run("xl", "save", "low-b", "/run/low-b.save")
        report["save"] = {"code": saved.returncode, "err": saved.stderr[-800:]}
    return report


def silo() -> Report:
    """No FLASK: Xen's SILO, which lets guests reach nobody but dom0; and no transitive grants."""
    with connected(["a", "b"]) as (a, b):
        passed = offer(a, b, "ro", "-")
        return {"transit": ask(a, "grant_transit", passed, 0, 8),
                "a_to_b": attempts(a, b, PV_MECHANISMS), "b_to_a": attempts(b, a, PV_MECHANISMS),
                "plant": ask(a, "event_plant", b.domid, a.domid, 1),
                "seen": ask(a, "event_status", b.domid, 8),
                "compose_a_to_b": compose(a, b, b), "compose_b_to_a": compose(b, a, a)}


SETS: dict[str, Callable[[], Report]] = {
    "reference": reference, "levels": levels, "silo": silo,
}

if __name__ == "__main__":
    began = time.monotonic()
    found = SETS[sys.argv[1]]()
    json.dump({**found, "seconds": round(time.monotonic() - began, 1)}, sys.stdout)
