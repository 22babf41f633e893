"""A storage domain that serves two coalitions, and what is tried against it.

The storage domain of examples/storage decides nothing itself: it asks the hypervisor.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.lab import builder, probe
from shype.lab.guests import config
from tests.attacks.attack import AS_MANAGED, Arena, Attack, By, Check, Ended, Ends, Mode, Whom, each
from tests.attacks.modes import compiled, up
from tests.lab.conftest import sealed_for

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/storage"
PROGRAMS = (EXAMPLE / "storage.py", ROOT / "src/shype/host/object_manager.py",
            ROOT / "tests/lab/ask_program.py")
GUEST = (ROOT / "tests/lab/python_guest.py").read_text()
#: The program that each VM runs, beside its probe.
VMS = {"storage": "storage.py", "red": "", "blue": "ask_program.py"}
RED = "u:r:l_red_app_t:s0"
NUMBERS = itertools.count(1)
#: The client's end of the channel that it uses.
PORTS: dict[str, str] = {}
#: Answers that came on it.
ANSWERED: dict[str, int] = {}
DENIED = "refused object.denied"


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """The storage domain, a client of each coalition; blue has Python and asks by itself, too."""
    place = tmp_path_factory.mktemp("storage")
    text = (EXAMPLE / "policy.yaml").read_text()
    # the next policy: blue's disks are switched off, and with them its objects
    later = text.replace("blue-app: {", "blue-app: {mechanisms: [event, grant, xenstore], ")
    later = later.replace('"1.0"}', '"1.1", from: "1.0"}')
    (place / "next").mkdir()
    following = compiled(later, mode, place / "next")
    with up(text, mode, place) as lab:
        lab.put("/run/next.shype", sealed_for(lab, following))
        for file in PROGRAMS:
            lab.put(f"/run/{file.name}", file.read_bytes())
        done = lab.run([*probe.ENVIRONMENT, "python3", "-c", GUEST, "/guest/python",
                        *(f"/run/{file.name}" for file in PROGRAMS)], timeout=200)
        assert done.code == 0, done.err
        for vm, app in VMS.items():
            text = config(vm, type="pv")
            if app:
                text = config(vm, type="pv", memory=192, args=f"app={app}").replace(
                    "/guest/initrd", "/guest/python")
            lab.put(f"/run/{vm}.cfg", text)
            done = lab.run(["shype", "run", f"/run/{vm}.cfg"], timeout=300)
            assert done.code == 0, done.err
        probe.wait_for(lab.run, [*VMS], timeout=300)
        notes = {vm: lab.run(["xl", "domid", vm]).out.strip() for vm in VMS}
        found = Arena(lab, notes, mode)
        offer(found, "red")
        offer(found, "blue")
        yield found


def offer(arena: Arena, vm: str) -> None:
    """A new event channel from ``vm`` to the storage domain."""
    done = probe.ask(arena.lab.run, vm, "event_offer", arena.notes["storage"])
    PORTS[vm], ANSWERED[vm] = str(done["port"]), 0


def reported(arena: Arena, vm: str, name: str, start: str = "", patience: float = 60) -> str:
    """What a guest's program has written, once it begins with ``start``."""
    end = time.monotonic() + patience
    while True:
        said = arena.lab.run(
            ["xenstore-read", f"/local/domain/{arena.notes[vm]}/data/{name}"]).out.strip()
        if said and said.startswith(start):
            return said
        assert time.monotonic() < end, (name, said, log(arena, vm))
        time.sleep(0.3)


def log(arena: Arena, vm: str) -> str:
    """The end of its console."""
    return arena.lab.sh(f"tail -c 2000 /var/log/xen/console/guest-{vm}.log").out


def ask(arena: Arena, vm: str, *texts: str, port: str = "", wait: int = 30000) -> list[str]:
    """What the storage domain answers ``vm``, in turn; an empty text if it does not."""
    storage = arena.notes["storage"]
    place, own = f"/local/domain/{arena.notes[vm]}/shype/to-{storage}", PORTS[vm]
    steps: list[tuple[str | int, ...]] = [(vm, "xs", "write", f"{place}/port", port or own)]
    read = []
    for number, text in enumerate(texts):
        page = f"@{len(steps)}.gref"
        steps += [
            (vm, "grant_offer", storage, "rw", text),
            (vm, "xs", "write", f"{place}/grant", page),
            (vm, "xs", "write", f"{place}/request", str(next(NUMBERS))),
            (vm, "event_received", own, wait, ANSWERED[vm] + number),
            (vm, "grant_read", page),
        ]
        read.append(len(steps) - 1)
    answers = probe.script(arena.lab.run, steps)
    said = [str(answers[at]["written"]) for at in read]
    ANSWERED[vm] += sum(map(bool, said))
    return said


def each_coalition_gets_its_own_objects_and_no_others(arena: Arena) -> None:
    reported(arena, "storage", "storage", "serves")
    assert ask(arena, "red", "put plan at-dawn", "get plan") == ["ok", "ok at-dawn"]
    assert ask(arena, "blue", "put ledger 42", "get ledger", "get plan") == ["ok", "ok 42", DENIED]
    assert ask(arena, "red", "get ledger", "put both red") == [DENIED, "ok"]
    assert ask(arena, "blue", "get both", "put both blue") == [DENIED, "ok"]
    assert ask(arena, "red", "get both", "get plan") == ["ok red", "ok at-dawn"]


def forged(arena: Arena) -> Ended:
    read, made = ask(arena, "blue", f"get plan {RED}", f"put forged {RED} text")
    (seen,) = ask(arena, "red", "get forged")
    held = (read, made, seen) == (DENIED, "ok", DENIED)
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"blue reads: {read}; red sees: {seen}")


def borrowed(arena: Arena) -> Ended:
    """red has a second channel ready, of a number that blue has not."""
    run, storage = arena.lab.run, arena.notes["storage"]
    port = str(probe.ask(run, "red", "event_offer", storage)["port"])
    while port == PORTS["blue"]:
        port = str(probe.ask(run, "red", "event_offer", storage)["port"])
    said = ask(arena, "blue", "get plan", port=port, wait=2000)
    told = reported(arena, "storage", "error", f"{arena.notes['blue']} ")
    offer(arena, "blue")
    held = said == [""] and ask(arena, "blue", "get ledger") == ["ok 42"]
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"no answer; the storage domain: {told}")


def without_right(arena: Arena) -> Ended:
    told = reported(arena, "blue", "asked")
    avc = [line for line in arena.lab.console().splitlines()
           if "denied" in line and "compute_av" in line and "l_blue_app_t" in line]
    held = told == "peer: object.not-asked; decide: object.not-asked; vector: 13" and avc
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"{told}; {len(avc)} AVC lines")


def from_dom0(arena: Arena) -> Ended:
    storage = arena.notes["storage"]
    arena.lab.run(["xenstore-write", f"/local/domain/{storage}/shype/from-0", "/local/domain/0/om"])
    arena.lab.run(["xenstore-chmod", f"/local/domain/{storage}/shype/from-0", "n0", f"r{storage}"])
    arena.lab.sh(f"xenstore-write /local/domain/0/om '' && "
                 f"xenstore-chmod /local/domain/0/om n0 r{storage}")
    answers = probe.script(arena.lab.run, [
        ("0", "event_offer", storage),
        ("0", "grant_offer", storage, "rw", f"get plan {RED}"),
        ("0", "xs", "write", "/local/domain/0/om/port", "@0.port"),
        ("0", "xs", "write", "/local/domain/0/om/grant", "@1.gref"),
        ("0", "xs", "write", "/local/domain/0/om/request", str(next(NUMBERS))),
        ("0", "event_received", "@0.port", 5000, 0),
        ("0", "grant_read", "@1.gref"),
    ])
    answer = str(answers[-1]["written"])
    arena.lab.run(["xenstore-rm", f"/local/domain/{storage}/shype/from-0", "/local/domain/0/om"])
    return Ended(Ends.OPEN if answer.startswith("ok") else Ends.STOPPED,
                 f"answer to dom0: {answer or 'none'}")


def nonsense(arena: Arena) -> Ended:
    said = [ask(arena, "blue", "get plan", port=port, wait=1000) for port in ("x", "99999999999")]
    offer(arena, "blue")
    served = ask(arena, "blue", "get ledger")
    held = said == [[""], [""]] and served == ["ok 42"]
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"answers {said}; afterwards: {served}")


def outlived(arena: Arena) -> Ended:
    """The channel of a domain that has ended serves nobody who gets its number."""
    number = arena.notes["red"]
    arena.lab.run(["shype", "stop", "--force", "red"], timeout=200)
    told = reported(arena, "storage", "gone", f"{number} ")
    return Ended(Ends.STOPPED if told.endswith("object.no-peer") else Ends.OPEN,
                 f"the hypervisor, asked about the channel: {told}")


def another_policy_counts_at_once(arena: Arena) -> None:
    assert ask(arena, "blue", "get ledger") == ["ok 42"]
    done = arena.lab.run(["shype", "apply", "/run/next.shype", "--yes"], timeout=300)
    assert done.code == 0, done.out + done.err
    assert ask(arena, "blue", "get ledger") == [DENIED]


ATTACKS: list[Attack | Check] = [
    Check(each_coalition_gets_its_own_objects_and_no_others),
    Attack("object.forged-label", By.GUEST, "a client writes another's label into its request",
           Ends.STOPPED, Whom.SERVER, forged),
    Attack("object.others-channel", By.GUEST, "a client gives another's event channel for its own",
           Ends.STOPPED, Whom.SERVER, borrowed),
    Attack("object.without-right", By.GUEST,
           "a guest that is no object manager asks the hypervisor for decisions",
           Ends.STOPPED, Whom.XEN, without_right),
    Attack("object.dom0-client", By.ROOT, "root in dom0 asks for a client's object, by its label",
           Ends.STOPPED, Whom.SERVER, from_dom0),
    Attack("object.nonsense", By.GUEST, "a client gives numbers that are none, to end the server",
           Ends.STOPPED, Whom.SERVER, nonsense),
    Attack("object.peer-died", By.FAULT, "a client ends; its channel and its domid stay behind",
           Ends.STOPPED, Whom.SERVER, outlived),
    Check(another_policy_counts_at_once,
          {Mode.MANAGER: "a manager's loading is tried in tests/lab/test_manager"}),
]

TestDefault, TestLocked, TestManager = each(ATTACKS, without=AS_MANAGED)
