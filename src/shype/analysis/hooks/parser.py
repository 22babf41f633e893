"""C text to functions, by tree-sitter.

tree-sitter reads a file without its headers, without a configuration and without a compiler,
and goes on after what it does not understand: docs/adr/0012-audit-hooks.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from shype.analysis.hooks.definitions import Definition
from shype.analysis.hooks.normalize import normalize, without_directives
from shype.analysis.hooks.syntax import (
    Case,
    Declare,
    Do,
    Either,
    Expr,
    Function,
    Goto,
    If,
    Label,
    Leave,
    Loop,
    Return,
    Stmt,
    Switch,
)

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_IFDEFS = {"preproc_if", "preproc_ifdef", "preproc_else", "preproc_elif", "preproc_elifdef"}
_NOTHING = {"comment", "preproc_call", "preproc_def", "preproc_include", "preproc_function_def"}

#: The line of the file at which the text that is being read starts.
_OFFSET: ContextVar[int] = ContextVar("line", default=1)


@cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_c

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_c.language()))


def parse(definition: Definition) -> Function:
    """The function that ``definition`` holds; an empty one if nothing in it can be read."""
    text = normalize(definition.text)
    token = _OFFSET.set(definition.line)
    try:
        for each in (text, without_directives(text)):
            for node in _definitions(_parser().parse(each.encode()).root_node):
                found = _function(node, definition.file)
                if found is not None:
                    return found
    finally:
        _OFFSET.reset(token)
    return Function(definition.name, definition.file, definition.line, (), ())


def _definitions(node: Node) -> Iterator[Node]:
    for child in node.named_children:
        if child.type == "function_definition":
            yield child
        elif child.type in _IFDEFS or child.type in ("ERROR", "linkage_specification"):
            yield from _definitions(child)


def _function(node: Node, file: Path) -> Function | None:
    declarator = node.child_by_field_name("declarator")
    while declarator is not None and declarator.type != "function_declarator":
        declarator = declarator.child_by_field_name("declarator")
    body = node.child_by_field_name("body")
    if declarator is None or body is None:
        return None
    name = declarator.child_by_field_name("declarator")
    if name is None or name.type != "identifier":
        return None
    listed = declarator.child_by_field_name("parameters")
    parameters = tuple(
        found for each in (listed.named_children if listed else ())
        if each.type == "parameter_declaration" and (found := _declared(each)) is not None
    )
    return Function(_text(name), file, _line(name), parameters, _block(body))


def _text(node: Node) -> str:
    return node.text.decode() if node.text else ""


def _line(node: Node) -> int:
    return node.start_point[0] + _OFFSET.get()


def _declared(node: Node | None) -> str | None:
    """The identifier that a declarator declares."""
    while node is not None:
        if node.type == "identifier":
            return _text(node)
        inner = node.child_by_field_name("declarator")
        if inner is None:
            inner = next(iter(n for n in node.named_children if "declarator" in n.type), None)
        node = inner
    return None


# --- statements --------------------------------------------------------------------------------


def _block(node: Node) -> tuple[Stmt, ...]:
    return tuple(found for child in node.named_children for found in _statement(child))


def _body(node: Node | None) -> tuple[Stmt, ...]:
    return tuple(_statement(node)) if node is not None else ()


def _statement(node: Node) -> Iterator[Stmt]:
    kind = node.type
    if kind in _NOTHING:
        return
    if kind == "compound_statement":
        yield from _block(node)
    elif kind == "expression_statement":
        for child in node.named_children:
            if child.type != "comment":
                yield Do(_expr(child))
    elif kind == "declaration":
        yield from _declaration(node)
    elif kind == "if_statement":
        yield _if(node)
    elif kind == "else_clause":
        yield from _block(node)
    elif kind == "switch_statement":
        subject = node.child_by_field_name("condition")
        body = node.child_by_field_name("body")
        if subject is not None and body is not None:
            for child in body.named_children:  # declarations before the first case
                if child.type == "declaration":
                    yield from _declaration(child)
            yield Switch(_expr(subject), tuple(_cases(body)))
    elif kind in ("while_statement", "do_statement", "for_statement"):
        yield _loop(node)
    elif kind == "return_statement":
        value = next((child for child in node.named_children if child.type != "comment"), None)
        yield Return(_expr(value) if value is not None else None, _line(node))
    elif kind == "goto_statement":
        yield Goto(_text(node.named_children[0]) if node.named_children else "")
    elif kind == "labeled_statement":
        label = node.child_by_field_name("label")
        yield Label(_text(label) if label is not None else "")
        for child in node.named_children[1:]:
            yield from _statement(child)
    elif kind in ("break_statement", "continue_statement"):
        yield Leave("break" if kind == "break_statement" else "continue")
    elif kind in ("preproc_if", "preproc_ifdef"):
        yield from _alternatives(node)
    elif kind == "case_statement":  # outside of a switch's own body: keep what it does
        yield from (s for case in _case(node) for s in case.body)
    else:  # ERROR and rare forms: keep what can be understood
        if kind.endswith("expression") or kind in ("identifier", "number_literal"):
            yield Do(_expr(node))
        else:
            yield from _block(node)


def _declaration(node: Node) -> Iterator[Stmt]:
    for child in node.children_by_field_name("declarator"):
        init = child.child_by_field_name("value") if child.type == "init_declarator" else None
        target = child.child_by_field_name("declarator") if init is not None else child
        if child.type == "function_declarator":  # MACRO-like: type name(args); also a call
            name, arguments = _declared(child), child.child_by_field_name("parameters")
            if name and arguments is not None:
                yield Declare(name, False, None)
            continue
        name = _declared(target)
        if name:
            pointer = target is not None and target.type == "pointer_declarator"
            yield Declare(name, pointer, _expr(init) if init is not None else None)


def _if(node: Node) -> If:
    condition = node.child_by_field_name("condition")
    text = re.sub(r"\s+", " ", _text(condition)) if condition is not None else ""
    expr = _expr(condition) if condition is not None else Expr("other", "", (), _line(node))
    return If(
        expr, text.removeprefix("(").removesuffix(")").strip(),
        _body(node.child_by_field_name("consequence")),
        _body(node.child_by_field_name("alternative")),
    )


def _loop(node: Node) -> Loop:
    def part(name: str) -> tuple[Stmt, ...]:
        child = node.child_by_field_name(name)
        if child is None:
            return ()
        return tuple(_statement(child)) if child.type == "declaration" else (Do(_expr(child)),)

    body = _body(node.child_by_field_name("body"))
    if node.type == "do_statement":
        return Loop((), body, part("condition"))
    return Loop((*part("initializer"), *part("condition")), body, part("update"))


def _cases(node: Node) -> list[Case]:
    return _split(node.named_children, [])


def _case(node: Node) -> list[Case]:
    value = node.child_by_field_name("value")
    label = re.sub(r"\s+", "", _text(value)) if value is not None else None
    rest = [child for child in node.named_children if value is None or child.id != value.id]
    return _split(rest, [Case(label, (), _line(node))])


def _split(nodes: list[Node], found: list[Case]) -> list[Case]:
    """Cases among ``nodes``, also those inside of ``#if``; a statement belongs to the last one."""
    for node in nodes:
        if node.type == "case_statement":
            found += _case(node)
        elif node.type in _IFDEFS and _has_case(node):
            found = _split(node.named_children, found)
        elif found:
            last = found[-1]
            found[-1] = Case(last.label, (*last.body, *_statement(node)), last.line)
    return found


def _has_case(node: Node) -> bool:
    return any(
        child.type == "case_statement" or (child.type in _IFDEFS and _has_case(child))
        for child in node.named_children
    )


def _alternatives(node: Node) -> Iterator[Stmt]:
    """``#if`` without ``#else``: as if compiled. With it: one of the two."""
    head = {child.id for name in ("name", "condition")
            if (child := node.child_by_field_name(name)) is not None}
    last = node.child_by_field_name("alternative")
    first = tuple(
        found for child in node.named_children
        if child.id not in head and (last is None or child.id != last.id)
        for found in _statement(child)
    )
    if last is None:
        yield from first
        return
    if last.type == "preproc_else":
        yield Either((first, _block(last)))
    else:
        yield Either((first, tuple(_alternatives(last))))


# --- expressions -------------------------------------------------------------------------------


def _expr(node: Node) -> Expr:
    kind, line = node.type, _line(node)
    if kind == "identifier":
        return Expr("name", _text(node), (), line)
    if kind in ("number_literal", "char_literal", "true", "false", "null"):
        return Expr("number", _text(node), (), line)
    if kind == "parenthesized_expression":
        inner = [child for child in node.named_children if child.type != "comment"]
        if len(inner) == 1:
            return _expr(inner[0])
    if kind == "cast_expression":
        value = node.child_by_field_name("value")
        if value is not None:
            return _expr(value)
    if kind == "call_expression":
        return _call(node)
    if kind in ("assignment_expression", "update_expression"):
        return _assign(node)
    if kind in ("field_expression", "subscript_expression"):
        base = node.child_by_field_name("argument")
        operator = "["
        if kind == "field_expression":
            words = (node.child_by_field_name(name) for name in ("operator", "field"))
            operator = "".join(_text(word) for word in words if word is not None)
        parts = [_expr(base)] if base is not None else []
        index = node.child_by_field_name("index")
        if index is not None:
            parts.append(_expr(index))
        return Expr("field", operator, tuple(parts), line)
    if kind in ("pointer_expression", "unary_expression"):
        return _unary(node)
    if kind == "binary_expression":
        return _binary(node)
    if kind == "conditional_expression":
        names = ("condition", "consequence", "alternative")
        parts3 = [_expr(child) for name in names
                  if (child := node.child_by_field_name(name)) is not None]
        return Expr("logic", "?:", tuple(parts3), line)
    if kind in ("compound_statement", "sizeof_expression", "offsetof_expression", "comment",
                "string_literal", "concatenated_string", "type_descriptor"):
        if kind == "compound_statement":  # a statement expression: ({ ... })
            return Expr("other", "({", tuple(_inside(_block(node))), line)
        return Expr("other", "", (), line)
    return Expr("other", "", tuple(_expr(child) for child in node.named_children), line)


def _inside(block: tuple[Stmt, ...]) -> Iterator[Expr]:
    """The expressions of a statement expression, in order; its branches count as taken."""
    for stmt in block:
        if isinstance(stmt, Do):
            yield stmt.expr
        elif isinstance(stmt, Declare) and stmt.init is not None:
            yield stmt.init
        elif isinstance(stmt, If):
            yield stmt.condition
            yield from _inside(stmt.then)
            yield from _inside(stmt.other)


def _call(node: Node) -> Expr:
    callee = node.child_by_field_name("function")
    arguments = node.child_by_field_name("arguments")
    parts = tuple(
        _expr(child) for child in (arguments.named_children if arguments is not None else ())
        if child.type != "comment"
    )
    name = _text(callee) if callee is not None and callee.type == "identifier" else ""
    if name in ("unlikely", "likely", "evaluate_nospec", "block_speculation") and parts:
        return parts[0]
    return Expr("call", name, parts, _line(node))


def _assign(node: Node) -> Expr:
    operator = node.child_by_field_name("operator")
    left = node.child_by_field_name("left") or node.child_by_field_name("argument")
    right = node.child_by_field_name("right")
    parts = [_expr(child) for child in (left, right) if child is not None]
    return Expr("assign", _text(operator) if operator else "=", tuple(parts), _line(node))


def _unary(node: Node) -> Expr:
    operator = node.child_by_field_name("operator")
    argument = node.child_by_field_name("argument")
    sign = _text(operator) if operator is not None else ""
    if argument is None:
        return Expr("other", sign, (), _line(node))
    inner = _expr(argument)
    if sign == "-" and inner.kind == "name" and re.fullmatch(r"E[A-Z0-9]+", inner.text):
        return Expr("errno", inner.text, (), _line(node))
    kinds = {"*": "field", "&": "address", "!": "logic"}
    return Expr(kinds.get(sign, "other"), sign, (inner,), _line(node))


def _binary(node: Node) -> Expr:
    operator = node.child_by_field_name("operator")
    sign = _text(operator) if operator is not None else ""
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    parts = tuple(_expr(child) for child in (left, right) if child is not None)
    kind = {"&&": "logic", "||": "logic", "==": "compare", "!=": "compare"}.get(sign, "other")
    return Expr(kind, sign, parts, _line(node))
