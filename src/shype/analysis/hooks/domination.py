"""Which checks dominate the effects of one operation: an ordered walk over its code.

The walk starts at the hypercall's entry, takes in every switch over operations the case of the
one that is asked about, and carries two sets of checks: those passed on every way here (must)
and those passed on some way (may). Each effect is noted with the two sets. What is taken for
granted is written down in docs/explanation/complete-mediation.md.
"""

from __future__ import annotations

from pathlib import Path

from shype.analysis.hooks.definitions import Definition
from shype.analysis.hooks.effects import (
    Effects,
    Locals,
    is_neutral,
    is_output,
    is_preparing,
    lasting,
)
from shype.analysis.hooks.failing import ERRORS, is_error, leaves, result, sets_error
from shype.analysis.hooks.frame import Frame, shown
from shype.analysis.hooks.operations import family_of
from shype.analysis.hooks.permissions import Permissions
from shype.analysis.hooks.reading import is_read
from shype.analysis.hooks.states import Check, Effect, State, Summary, distinct, ending, join
from shype.analysis.hooks.syntax import (
    Declare,
    Do,
    Either,
    Expr,
    Goto,
    If,
    Label,
    Leave,
    Loop,
    Return,
    Stmt,
    Switch,
)
from shype.analysis.hooks.tree import Tree

_DEPTH = 10
#: How deep a call may be to count for what the operation itself sets up.
_NEAR = 4
#: Direct queries of the AVC in FLASK's own hypercall.
DIRECT = frozenset({"domain_has_security", "avc_current_has_perm", "avc_has_perm",
                     "current_has_perm", "domain_has_perm", "domain_has_xen"})


class Walk:
    """The walk for one operation; ``reaching`` are functions that lead to a check or a case."""

    def __init__(
        self, tree: Tree, permissions: Permissions, effects: Effects, operation: str,
        reaching: frozenset[str], over: str = "",
    ) -> None:
        self._tree, self._permissions, self._effects = tree, permissions, effects
        self._operation, self._reaching = operation, reaching
        self._chosen = {family_of(name): name for name in (over, operation) if name}
        self._known: dict[tuple[Definition, frozenset[str]], Summary] = {}
        self._stack: list[Definition] = []
        self.handled: tuple[Path, int] | None = None
        self.silent: set[Check] = set()
        self.ignored: set[Check] = set()
        self.lasting: set[str] = set()

    def summary(self, definition: Definition, lent: frozenset[str] = frozenset()) -> Summary:
        """What ``definition`` does for the operation."""
        key = (definition, lent)
        if key in self._known:
            return self._known[key]
        function = self._tree.function(definition)
        frame = Frame(function, Locals(function.parameters, lent))
        self._stack.append(definition)
        end = self._block(function.body, State(), frame, branch=False)
        self._stack.pop()
        result = Summary(distinct(frame.effects), ending(end, *frame.ends))
        self._known[key] = result
        return result

    # --- statements ----------------------------------------------------------------------------

    def _block(
        self, block: tuple[Stmt, ...], state: State | None, frame: Frame, *, branch: bool
    ) -> State | None:
        """``branch``: inside an if, where leaving early is taken for giving up."""
        for stmt in block:
            if isinstance(stmt, Label):
                state = self._label(stmt, state, frame)
            if state is None:
                continue
            if isinstance(stmt, Do):
                state = self._plain(stmt.expr, state, frame, statement=True)
            elif isinstance(stmt, Declare):
                frame.local.declare(stmt)
                if stmt.init is not None:
                    value = Expr("assign", "=", (
                        Expr("name", stmt.name, (), stmt.init.line), stmt.init), stmt.init.line)
                    state = self._value(value, stmt.init, stmt.name, state, frame)
            elif isinstance(stmt, If):
                state = self._if(stmt, state, frame, branch=branch)
            elif isinstance(stmt, Switch):
                state = self._switch(stmt, state, frame, branch=branch)
            elif isinstance(stmt, Loop):
                state = self._loop(stmt, state, frame)
            elif isinstance(stmt, Either):
                ends = [self._block(each, state, frame, branch=branch) for each in stmt.branches]
                state = join(*ends)
            elif isinstance(stmt, Return):
                self._return(stmt, state, frame, branch=branch)
                state = None
            elif isinstance(stmt, Goto):
                frame.jumps.setdefault(stmt.label, []).append((state, branch))
                state = None
            elif isinstance(stmt, Leave):
                if stmt.word == "break" and frame.breaks and not (branch and self._giving_up):
                    frame.breaks[-1].append(state)
                state = None
        return state

    #: Set while a branch is walked that deals with an error.
    _giving_up = False

    def _label(self, stmt: Label, state: State | None, frame: Frame) -> State | None:
        jumps = frame.jumps.get(stmt.name, [])
        sure = [each for each, branch in jumps if not branch]
        if state is None and not sure:
            return None if not jumps else self._kept(jumps)
        return ending(state, *sure)

    @staticmethod
    def _kept(jumps: list[tuple[State, bool]]) -> State | None:
        """A label that only branches lead to: cleaning up, unless a check was passed."""
        return ending(*(state for state, _ in jumps if state.guarded))

    def _if(self, stmt: If, state: State, frame: Frame, *, branch: bool) -> State | None:
        yes, no = self._evaluate(stmt.condition, state, frame)
        outer = self._giving_up
        bad = sets_error(stmt.then) or (is_error(stmt.condition) and leaves(stmt.then))
        self._giving_up = outer or bad
        then = self._block(stmt.then, yes, frame, branch=yes is not None and (no is not None
                                                                            or branch))
        self._giving_up = outer or sets_error(stmt.other)
        other = self._block(stmt.other, no, frame, branch=no is not None and (yes is not None
                                                                            or branch))
        self._giving_up = outer
        if then is not None and other is not None:
            # The way that has just failed does no more than clean up.
            failed = [each.failing not in (0, state.failing) for each in (then, other)]
            if failed == [True, False]:
                return other
            if failed == [False, True]:
                return then
        return join(then, other)

    def _switch(self, stmt: Switch, state: State, frame: Frame, *, branch: bool) -> State | None:
        start = self._plain(stmt.subject, state, frame)
        frame.breaks.append([])
        cases = stmt.cases
        labels = [case.label for case in cases]
        chosen = self._select(stmt, frame)
        outer, self._giving_up = self._giving_up, False
        at: State | None = None
        if chosen is not None:
            at = start if chosen < len(cases) else None
            for case in cases[chosen:]:
                at = self._block(case.body, at, frame, branch=branch)
                if at is None:
                    break
            left = frame.breaks.pop()
            if chosen == len(cases):  # no case: nothing is done
                left.append(start)
        else:
            for case in cases:
                at = self._block(case.body, join(start, at), frame, branch=True)
            left = frame.breaks.pop()
            if None not in labels:
                left.append(start)
        self._giving_up = outer
        return ending(at, *left)

    def _select(self, stmt: Switch, frame: Frame) -> int | None:
        """Which case is taken; None if the switch is about something else."""
        labels = [case.label for case in stmt.cases]
        for family, name in self._chosen.items():
            if name in labels:
                number = labels.index(name)
                if name == self._operation and self.handled is None:
                    self.handled = (frame.function.file, stmt.cases[number].line)
                return number
            if any(label and family_of(label) == family for label in labels):
                return labels.index(None) if None in labels else len(labels)
        return None

    def _loop(self, stmt: Loop, state: State, frame: Frame) -> State | None:
        """As if the body ran once, to its end: a loop that ends before has no effects to guard."""
        frame.breaks.append([])
        at = self._block(stmt.head, state, frame, branch=True)
        at = self._block(stmt.body, at, frame, branch=True)
        at = self._block(stmt.step, at, frame, branch=True)
        left = frame.breaks.pop()
        return at or ending(*left) or state

    def _return(self, stmt: Return, state: State, frame: Frame, *, branch: bool) -> None:
        after = state if stmt.value is None else self._plain(stmt.value, state, frame)
        value = stmt.value
        if (branch and self._giving_up) or (value is not None and value.kind == "errno"):
            return
        if after.failing and (value is None or value.kind == "name"):
            return
        if branch and value is not None and value.kind == "name" and ERRORS.fullmatch(value.text):
            return
        if branch and value is not None and value.kind == "number" and value.text in (
            "NULL", "false"
        ):
            return
        frame.ends.append(after)

    # --- expressions ---------------------------------------------------------------------------

    def _plain(
        self, expr: Expr, state: State, frame: Frame, *, statement: bool = False
    ) -> State:
        if expr.kind in ("name", "number", "errno"):
            return state
        if statement and expr.kind == "call" and self._hook(expr) is not None:
            check = self._check(expr, frame)
            if check is not None:
                self.ignored.add(check)
            return state
        if statement and expr.kind == "assign" and len(expr.parts) == 2 \
                and expr.parts[0].kind == "name":
            return self._value(expr, expr.parts[1], expr.parts[0].text, state, frame)
        return join(*self._evaluate(expr, state, frame)) or state

    def _value(
        self, expr: Expr, value: Expr, name: str, state: State, frame: Frame
    ) -> State:
        """``name = value``: a hook's answer counts only if somebody reads it afterwards."""
        if value.kind == "call" and self._hook(value) is not None:
            check = self._check(value, frame)
            if check is not None and not is_read(frame.function, name, value):
                self.ignored.add(check)
                return state
        after = join(*self._evaluate(value, state, frame)) or state
        target = expr.parts[0]
        owner = frame.local.owner(target)
        if owner is not None:
            self._effect(frame, expr.line, f"writes {shown(target)}", after)
        frame.local.assign(target, value)
        return result(target, value, after)

    def _evaluate(
        self, expr: Expr, state: State, frame: Frame
    ) -> tuple[State | None, State | None]:
        """The states in which ``expr`` is true and false; None if it cannot be."""
        if expr.kind == "logic":
            return self._logic(expr, state, frame)
        if expr.kind == "call":
            after = self._call(expr, state, frame)
            return after, after
        if expr.kind == "assign" and expr.parts:
            yes: State | None = state
            no: State | None = state
            if len(expr.parts) == 2:
                yes, no = self._evaluate(expr.parts[1], state, frame)
                frame.local.assign(expr.parts[0], expr.parts[1])
            if frame.local.owner(expr.parts[0]) is not None:
                self._effect(frame, expr.line, f"writes {shown(expr.parts[0])}",
                             join(yes, no) or state)
            if len(expr.parts) == 2:
                target, value = expr.parts
                yes = None if yes is None else result(target, value, yes)
                no = None if no is None else result(target, value, no)
            return yes, no
        if expr.kind == "name" and ERRORS.fullmatch(expr.text):
            return state.result(expr.line)
        after = state
        for part in expr.parts:
            after = self._plain(part, after, frame)
        if expr.kind == "other" and expr.text == "<" and expr.parts[0].kind == "name" \
                and ERRORS.fullmatch(expr.parts[0].text):
            return after.result(expr.line)
        if expr.kind == "compare":
            known = self._compared(expr, frame)
            if known is not None:
                return (after, None) if known else (None, after)
        return after, after

    def _logic(
        self, expr: Expr, state: State, frame: Frame
    ) -> tuple[State | None, State | None]:
        yes, no = self._evaluate(expr.parts[0], state, frame)
        if expr.text == "!":
            return no, yes
        if expr.text == "&&" and len(expr.parts) == 2:
            if yes is None:
                return None, no
            then, other = self._evaluate(expr.parts[1], yes, frame)
            return then, join(no, other)
        if expr.text == "||" and len(expr.parts) == 2:
            if no is None:
                return yes, None
            then, other = self._evaluate(expr.parts[1], no, frame)
            return join(yes, then), other
        ends: list[tuple[State | None, State | None]] = []
        for start, part in zip((yes, no), expr.parts[1:], strict=False):
            if start is not None and part.kind == "errno" and len(expr.parts) == 3:
                continue  # one way is an error: the other one counts
            if start is not None:
                ends.append(self._evaluate(part, start, frame))
        return join(*(a for a, _ in ends)), join(*(b for _, b in ends))

    def _compared(self, expr: Expr, frame: Frame) -> bool | None:
        """Whether a comparison with an operation's name holds for this operation."""
        for part in expr.parts:
            if part.kind != "name":
                continue
            name = self._chosen.get(family_of(part.text))
            if name is not None:
                if name == part.text == self._operation and self.handled is None:
                    self.handled = (frame.function.file, part.line)
                return (part.text == name) == (expr.text == "==")
        return None

    def _call(self, expr: Expr, state: State, frame: Frame) -> State:
        for part in expr.parts:
            state = self._plain(part, state, frame)
        if self._hook(expr) is not None:
            check = self._check(expr, frame)
            if check is None:
                return state
            return state.then(State(frozenset({check}), frozenset({check}), True))
        if len(self._stack) <= _NEAR and (reason := lasting(expr.text)):
            self.lasting.add(reason)
        if not expr.text:
            self._effect(frame, expr.line, "calls through a pointer", state)
            return state
        if is_output(expr.text):
            self._effect(frame, expr.line, f"{expr.text} gives data to the caller", state)
            return state
        callee = self._tree.resolve(expr.text, frame.function.file)
        if callee is None or is_preparing(expr.text):
            return state
        if is_neutral(expr.text) and not self._hooks_in(callee):
            return state
        if callee in self._stack:
            return state  # what it does is being walked already
        if expr.text in self._reaching and len(self._stack) < _DEPTH:
            return self._into(callee, expr, state, frame)
        if self._effects.of_call(callee, expr.parts, frame.local):
            self._effect(frame, expr.line, f"calls {expr.text}", state)
        return state

    def _hooks_in(self, callee: Definition) -> bool:
        return any(word.startswith("xsm_") and word[4:] in self._tree.hooks
                   for word in callee.callees)

    def _into(self, callee: Definition, expr: Expr, state: State, frame: Frame) -> State:
        names = self._tree.function(callee).parameters
        lent = frozenset(name for name, value in zip(names, expr.parts, strict=False)
                         if frame.local.lends(value))
        inner = self.summary(callee, lent)
        for effect in inner.effects:
            frame.effects.append(Effect(
                effect.file, effect.line, effect.what,
                state.then(effect.state),
            ))
        return state if inner.end is None else state.then(inner.end)

    # --- checks and effects --------------------------------------------------------------------

    def _hook(self, expr: Expr) -> str | None:
        name = expr.text.removeprefix("xsm_")
        if expr.text.startswith("xsm_") and name in self._tree.hooks:
            return name
        return expr.text if expr.text in DIRECT else None

    def _check(self, expr: Expr, frame: Frame) -> Check | None:
        """The check that a call of a hook is; None if FLASK asks nothing there."""
        name = self._hook(expr)
        assert name is not None
        if name in DIRECT and frame.function.file.parent != Path("xsm/flask"):
            return None
        permissions = Permissions.named(frame.function, expr) if name in DIRECT else \
            self._permissions.of(name, self._operation, expr.parts)
        default = next((part.text for part in expr.parts
                        if part.kind == "name" and part.text.startswith("XSM_")), "")
        check = Check(frame.function.file, expr.line, expr.text, default, permissions)
        if permissions:
            return check
        self.silent.add(check)
        return None

    def _effect(self, frame: Frame, line: int, what: str, state: State) -> None:
        frame.effects.append(Effect(frame.function.file, line, what, state))
