"""Two things that can be asked the same questions: a binary policy, and a hypervisor.

`Verdicts` turns their answers into whether an operation between two VMs works.
"""

from __future__ import annotations

from typing import Protocol

from shype.base.errors import BadInput
from shype.decision.operation import Operation
from shype.host.verify.access import Answers
from shype.host.verify.binary import Binary


class Asked(Protocol):
    """Asks a hypervisor (`shype.host.drivers.xen.access.Questions`)."""

    sequence: int

    def sid(self, context: str) -> int | None: ...

    def context(self, sid: int) -> str: ...

    def allowed(self, source: int, target: int, cls: int) -> int: ...

    def created(self, source: int, target: int, cls: int) -> int: ...


class Oracle(Protocol):
    """None stands for a context that it does not know."""

    def knows(self, context: str) -> bool:
        """Whether there is such a context."""

    def written(self, context: str) -> str | None:
        """How it writes that context itself."""

    def allowed(self, source: str, target: str, cls: str) -> int | None:
        """The access vector of ``source`` on ``target``."""

    def created(self, source: str, target: str, cls: str) -> str | None:
        """The context of a new object."""


class Compiled:
    """The binary policy of a bundle."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def knows(self, context: str) -> bool:
        """See `Oracle`."""
        try:
            self._answers.created(context, context, "domain")
        except BadInput:
            return False
        return True

    def written(self, context: str) -> str | None:
        """See `Oracle`."""
        return self._answers.written(context) if self.knows(context) else None

    def allowed(self, source: str, target: str, cls: str) -> int | None:
        """See `Oracle`."""
        return self._answers.allowed(source, target, cls)

    def created(self, source: str, target: str, cls: str) -> str | None:
        """See `Oracle`."""
        return self._answers.created(source, target, cls)


class Loaded:
    """The policy that the hypervisor has loaded; classes are numbered as in ``binary``.

    (The hypervisor loads no policy that numbers them otherwise than it does itself.)
    """

    def __init__(self, asked: Asked, binary: Binary) -> None:
        self._asked, self._classes = asked, binary.classes
        self.sequences: set[int] = set()

    def knows(self, context: str) -> bool:
        """See `Oracle`."""
        return self._asked.sid(context) is not None

    def written(self, context: str) -> str | None:
        """See `Oracle`."""
        sid = self._asked.sid(context)
        return None if sid is None else self._asked.context(sid)

    def allowed(self, source: str, target: str, cls: str) -> int | None:
        """See `Oracle`."""
        s, t = self._asked.sid(source), self._asked.sid(target)
        if s is None or t is None:
            return None
        found = self._asked.allowed(s, t, self._classes[cls].value)
        self.sequences.add(self._asked.sequence)
        return found

    def created(self, source: str, target: str, cls: str) -> str | None:
        """See `Oracle`."""
        s, t = self._asked.sid(source), self._asked.sid(target)
        if s is None or t is None:
            return None
        return self._asked.context(self._asked.created(s, t, self._classes[cls].value))


class Verdicts:
    """Whether operations between VMs work, from the checks in xen/xsm/flask/hooks.c.

    ``manager``: the context of the manager, if there is one. It sees who runs, which is no control.
    """

    def __init__(self, oracle: Oracle, binary: Binary, manager: str | None = None) -> None:
        self._oracle, self._manager = oracle, manager
        self._bits = {
            (cls, name): 1 << i
            for cls, entry in binary.classes.items() for i, name in enumerate(entry.permissions)
        }

    def permits(self, subject: str, object: str, operation: Operation) -> bool | None:
        """Of two contexts; None if one of them is not known."""
        if not self._oracle.knows(subject) or not self._oracle.knows(object):
            return None
        match operation:
            case Operation.EVENT_SEND:
                end = self._oracle.created(subject, object, "event") or ""
                return (self._opens(subject, object) and self._opens(object, subject)
                        and self._has(subject, end, "event", "send"))
            case Operation.MAP_READ:
                return self._has(subject, object, "grant", "map_read")
            case Operation.MAP_WRITE:
                return (self._has(subject, object, "grant", "map_read")
                        and self._has(subject, object, "grant", "map_write"))
            case Operation.COPY_FROM:  # checked from the data's source to its sink
                return self._has(object, subject, "grant", "copy")
            case Operation.COPY_TO:
                return self._has(subject, object, "grant", "copy")
            case Operation.ARGO_SEND:  # the owner of the ring registers it for the sender
                return (self._has(subject, object, "argo", "send")
                        and self._has(object, subject, "argo", "register_single_source"))
            case Operation.FOREIGN_MAP:
                return any(self._has(subject, object, "mmu", word)
                           for word in ("map_read", "map_write"))
            case Operation.CONTROL:
                sees = self._bits["domain", "getdomaininfo"] if subject == self._manager else 0
                return any((self._oracle.allowed(subject, object, cls) or 0)
                           & ~(sees if cls == "domain" else 0)
                           for cls in ("domain", "domain2", "hvm", "shadow"))
            case _:
                raise ValueError(f"{operation} is not the hypervisor's")

    def _opens(self, owner: str, peer: str) -> bool:
        """Whether ``owner`` may have its end of a channel to ``peer``."""
        end = self._oracle.created(owner, peer, "event") or ""
        return self._has(owner, end, "event", "create") and self._has(end, peer, "event", "bind")

    def _has(self, source: str, target: str, cls: str, permission: str) -> bool:
        return bool((self._oracle.allowed(source, target, cls) or 0) & self._bits[cls, permission])
