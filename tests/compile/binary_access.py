"""What a binary policy permits, worked out one question at a time.

Written from Xen's sources (xen/xsm/flask/hooks.c, ss/services.c, ss/mls.c),
not from shype's own validation: no masks, no rows, no classes. The binary
comes from SETools (`shype.compile.flask.reader.read`).
"""

from __future__ import annotations

from dataclasses import dataclass

from shype.compile.flask.reader import Binary

Level = tuple[int, frozenset[int]]


@dataclass(frozen=True)
class Subject:
    """A security context: what the hypervisor compares."""

    role: str
    type: str
    low: Level
    high: Level


def subject(context: str) -> Subject:
    """From ``u:r:l_x_t:s0-s1:c0,c2.c4``."""
    _, role, type_, levels = context.split(":", 3)
    ends = [_level(end.strip()) for end in levels.split("-")]
    return Subject(role, type_, ends[0], ends[-1])


def _level(text: str) -> Level:
    rank, _, categories = text.partition(":")
    held: set[int] = set()
    for run in categories.split(",") if categories else []:
        ends = [int(end.removeprefix("c")) for end in run.split(".")]
        held |= {*range(ends[0], ends[-1] + 1)}
    return int(rank.removeprefix("s")), frozenset(held)


def _dominates(a: Level, b: Level) -> bool:
    return a[0] >= b[0] and a[1] >= b[1]


class Hypervisor:
    """The checks of a hypervisor that has loaded ``binary``."""

    def __init__(self, binary: Binary) -> None:
        self._binary = binary
        self._rules: set[tuple[str, str, str, str]] = set()
        self.conditional: set[tuple[str, str, str, str]] = set()
        for rule in binary.allows:
            found = self._rules if rule.condition < 0 else self.conditional
            for source in binary.attributes.get(rule.source, [rule.source]):
                for target in binary.attributes.get(rule.target, [rule.target]):
                    found |= {(source, target, rule.cls, word) for word in rule.permissions}
        self._transitions = {
            (source, target): new
            for (sources, targets, cls), new in binary.transitions.items() if cls == "event"
            for source in binary.attributes.get(sources, [sources])
            for target in binary.attributes.get(targets, [targets])
        }

    def has_rule(self, source: str, target: str, cls: str, permission: str) -> bool:
        """An unconditional rule."""
        return (source, target, cls, permission) in self._rules

    def has_perm(self, source: Subject, target: Subject, cls: str, permission: str) -> bool:
        """avc_has_perm(): a rule, and no constraint against it."""
        return self.has_rule(source.type, target.type, cls, permission) and all(
            self._holds(constraint.expression, source, target)
            for constraint in self._binary.constraints
            if constraint.cls == cls and permission in constraint.permissions
        )

    def _holds(
        self, tokens: tuple[str | tuple[str, ...], ...], source: Subject, target: Subject
    ) -> bool:
        """constraint_expr_eval(), on a stack of five."""
        stack: list[object] = []
        values: dict[str, object] = {
            "t1": source.type, "t2": target.type, "r1": source.role, "r2": target.role,
            "l1": source.low, "l2": target.low, "h1": source.high, "h2": target.high,
        }
        waiting: list[object] = []
        for token in tokens:
            if isinstance(token, tuple):
                waiting.append({
                    name for word in token for name in self._binary.attributes.get(word, [word])
                })
            elif token in values:
                waiting.append(values[token])
            elif token in ("and", "or"):
                right, left = stack.pop(), stack.pop()
                stack.append((left and right) if token == "and" else (left or right))
            elif token == "not":
                stack.append(not stack.pop())
            else:
                right, left = waiting.pop(), waiting.pop()
                stack.append(self._compare(token, left, right))
            assert len(stack) <= 5, "CEXPR_MAXDEPTH"
        [result] = stack
        assert not waiting
        return bool(result)

    def _compare(self, operator: str, left: object, right: object) -> bool:
        if operator in ("==", "!="):
            same = left in right if isinstance(right, set) else left == right
            return same is (operator == "==")
        assert isinstance(left, tuple)
        assert isinstance(right, tuple)
        above, below = _dominates(left, right), _dominates(right, left)
        return {"dom": above, "domby": below, "incomp": not above and not below}[operator]

    # -- what two domains try -----------------------------------------------------------------

    def end(self, owner: Subject, peer: Subject) -> Subject:
        """``owner``'s end of an event channel to ``peer``: security_transition_sid()."""
        type_ = self._transitions.get((owner.type, peer.type), peer.type)
        return Subject("object_r", type_, owner.low, owner.low)

    def opens(self, owner: Subject, peer: Subject) -> bool:
        """flask_evtchn_unbound() and the like: one side's part of opening a channel."""
        end = self.end(owner, peer)
        return self.has_perm(owner, end, "event", "create") and self.has_perm(
            end, peer, "event", "bind"
        )

    def does(self, operation: str, s: Subject, o: Subject) -> bool:
        """Whether ``s`` succeeds with an operation on ``o``."""
        match operation:
            case "event.send":
                return self.opens(s, o) and self.opens(o, s) and self.has_perm(
                    s, self.end(s, o), "event", "send"
                )
            case "grant.map_read":
                return self.has_perm(s, o, "grant", "map_read")
            case "grant.map_write":
                return all(self.has_perm(s, o, "grant", w) for w in ("map_read", "map_write"))
            case "grant.copy_from":
                return self.has_perm(o, s, "grant", "copy")
            case "grant.copy_to":
                return self.has_perm(s, o, "grant", "copy")
            case "argo.send":  # the owner of the ring registers it for one sender
                return self.has_perm(s, o, "argo", "send") and self.has_perm(
                    o, s, "argo", "register_single_source"
                )
            case "foreign.map":
                return any(self.has_perm(s, o, "mmu", w) for w in ("map_read", "map_write"))
            case _:
                assert operation == "control.domain"
                return any(
                    self.has_perm(s, o, cls, word)
                    for cls, words in CONTROL.items() for word in words
                )


#: Power over a domain, but to see it and to end it, which dom0 always may.
CONTROL = {
    "domain": ("unpause", "setvcpucontext", "max_vcpus", "setaffinity", "resume"),
    "domain2": ("set_cpu_policy", "resource_map"),
    "hvm": ("sethvmc", "gethvmc"),
}
