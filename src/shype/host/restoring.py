"""Restore a VM from a file: labelled as this host's own policy says, never as the image does.

The same state machine as for a launch, with another way of coming to a domain.  The launch
window is open only until there is one; the memory follows.  What is restored does not run
before the whole image has turned out to be the one that was saved.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.hypervisor import Source
from shype.host.ids import HostId
from shype.host.image import Head, read_head
from shype.host.labeling import Labelling, label_for
from shype.host.launch import Observer, Outcome, Request, ready, told
from shype.host.launch_events import LaunchEvents
from shype.host.receipt import Receipt, Receipts
from shype.host.saving import digest
from shype.policy.names import UNLABELED, LabelName, VmId

#: Bytes of an image that are moved at a time.
CHUNK = 1024 * 1024
#: Seconds that the toolstack gets from the head of an image to its domain.
_CREATION = 120
_POLL = 0.1


def restore(
    agent: Agent, file: Path, *, foreign: bool = False, observer: Observer = lambda step: None,
    lock_timeout: float = 30,
) -> Outcome:
    """Restore the VM in ``file``; with ``foreign`` also one that this host has not saved.

    A refusal is an `Outcome`. Raises as `shype.host.launch.launch` does, and BadInput
    (``image.invalid``, ``image.unreadable``, ``image.altered``).
    """
    with told(LaunchEvents(agent, f"file:{file}", "restore")) as tell, _opened(file) as image:
        head = read_head(image.read)

        def begun() -> Request:
            ready(agent, observer)
            return _request(agent, head, image, foreign)

        with agent.lock.hold(lock_timeout):
            return tell(begun, observer)


def _request(agent: Agent, head: Head, image: BinaryIO, foreign: bool) -> Request:
    receipt = Receipts(agent.state).get(head.receipt) if head.receipt else None
    if receipt is not None and receipt.uuid != head.uuid:
        receipt = None  # it is another VM's
    sum = digest()
    sum.update(head.raw)

    def memory(ended: Callable[[], bool]) -> Iterator[bytes]:
        while chunk := image.read(CHUNK):
            sum.update(chunk)
            yield chunk

    def check() -> None:
        for _ in memory(lambda: False):
            pass  # what the toolstack had no use for
        if receipt is not None and sum.hexdigest() != receipt.digest:
            raise BadInput(
                "image.altered", f"the image of {head.name} is not what was saved",
                "restore it from a backup; nothing of it has run")

    named = labelling(agent, head, receipt)
    if receipt is None and not foreign and named.label is not None:
        named = Labelling(None, _unknown(agent, head))
    if receipt is None:
        return request(agent, head, named, None, head.actions, memory, check)
    return request(agent, head, named, receipt.config, receipt.actions, memory, check)


def request(
    agent: Agent, head: Head, named: Labelling, config: bytes | None, actions: Mapping[str, str],
    memory: Source, check: Callable[[], None],
) -> Request:
    """The request to make the VM of ``head`` from the stream ``memory`` that follows it."""
    first = b""
    before = frozenset(domain.domid for domain in agent.hypervisor.domains())

    def prepare(context: str, channel: Path | None) -> None:
        nonlocal first
        first = head.rewritten(context, actions)

    def build(close: Callable[[], None]) -> None:
        def stream(ended: Callable[[], bool]) -> Iterator[bytes]:
            yield first
            _await_domain(agent, before, ended)
            close()  # nothing can be created any more, and the memory may take its time
            yield from memory(ended)

        agent.hypervisor.restore_paused(stream)

    vm = replace(head.vm, actions=dict(actions))
    return Request(vm, named, config, prepare, build, check)


def labelling(agent: Agent, head: Head, receipt: Receipt | None = None) -> Labelling:
    """The label by this host's own word: its policy's, or what it saved itself.

    The image's own label only has to agree.
    """
    own = label_for(head.vm, agent.policy, agent.manifest)
    label = own.label
    if receipt is not None and label in (None, UNLABELED):
        label = receipt.label  # from its configuration, when it was started here
    if label is None:
        return own
    known = agent.policy.labels[label]
    if known.vtpm:
        return Labelling(None, Decision(
            False, HostId.VTPM_STAYS,
            f"{head.name} may not be restored or received: VMs of {label} have a TPM, and no image "
            "has what is in it.", (known.span,)))
    claimed = agent.manifest.label_of_context(head.context) if head.context else None
    if claimed != label or (receipt is not None and receipt.label != label):
        said = claimed or (
            f"a label of another policy ({head.context})" if head.context else "none")
        saved = receipt.label if receipt is not None else None
        return Labelling(None, mismatch(agent, head.name, label, said, saved))
    return Labelling(label, notices=own.notices if label == own.label else ())


def _await_domain(agent: Agent, before: frozenset[int], ended: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _CREATION
    while not ended() and time.monotonic() < deadline:
        if any(domain.domid not in before for domain in agent.hypervisor.domains()):
            return
        time.sleep(_POLL)


def mismatch(
    agent: Agent, vm: str, own: LabelName, said: str, saved: LabelName | None = None
) -> Decision:
    """The refusal of a VM that claims to be ``said``."""
    here = f"; what was saved here was {saved}" if saved is not None else ""
    assigned = agent.policy.assignments.get(VmId(vm))
    return Decision(
        False, HostId.IMAGE_MISMATCH,
        f"{vm} may not be restored: its label on this host is {own}, and the image says "
        f"{said}{here}.",
        (assigned.span if assigned else agent.policy.host.span,),
    )


def _unknown(agent: Agent, head: Head) -> Decision:
    return Decision(
        False, HostId.IMAGE_UNKNOWN,
        f"{head.name} may not be restored: this host has not saved this image, so nobody vouches "
        "for whose memory it is (--foreign: you do).",
        (agent.policy.host.span,),
    )


def _opened(file: Path) -> BinaryIO:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput("image.unreadable", f"cannot read {file}: {error.strerror}") from error
    image = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        image.close()
        raise BadInput("image.unreadable", f"{file} is no file")
    return image
