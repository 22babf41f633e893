"""Reading elements by a table of what may stand where; all that deviates is found, not refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from shype.policy.acm.findings import Id, error, warning
from shype.policy.acm.model import Name
from shype.policy.acm.xml import Element
from shype.policy.findings import show
from shype.policy.source import Finding

#: The namespace of every generation.
NAMESPACE = "http://www.ibm.com"


@dataclass(frozen=True, slots=True)
class Part:
    """A child that may stand at this place of the sequence."""

    name: str
    required: bool = False
    many: bool = False


@dataclass(slots=True)
class Structure:
    """Collects what is wrong with the structure while elements are taken apart."""

    findings: list[Finding] = field(default_factory=list)

    def root(self, element: Element) -> None:
        """Judge the namespace of a document."""
        if element.namespace != NAMESPACE:
            what = show(element.namespace) if element.namespace else "none"
            self.findings.append(warning(
                Id.NAMESPACE, element.span,
                f"the namespace is {what} and not {NAMESPACE}, so that a validator of that time "
                "refuses the file; its elements are read all the same",
                f'write xmlns="{NAMESPACE}" in the root element',
            ))

    def take(
        self, parent: Element, parts: Sequence[Part], attributes: Collection[str] = ()
    ) -> dict[str, list[Element]]:
        """The children of ``parent`` by name; of those that may stand once, the first only."""
        order = {part.name: index for index, part in enumerate(parts)}
        found: dict[str, list[Element]] = {part.name: [] for part in parts}
        last = 0
        for child in parent.children:
            index = order.get(child.name)
            if index is None or child.namespace not in ("", NAMESPACE, parent.namespace):
                self.findings.append(error(
                    Id.UNKNOWN_ELEMENT, child.span,
                    f"the element {show(child.name)} has no meaning in {show(parent.name)}; it is "
                    "left out", "delete it, or mend its name or namespace",
                ))
                continue
            if index < last:
                self.findings.append(warning(
                    Id.ORDER, child.span,
                    f"{show(child.name)} stands after {show(parts[last].name)}, against the "
                    "schema's order", f"order: {', '.join(part.name for part in parts)}",
                ))
            last = max(last, index)
            if found[child.name] and not parts[index].many:
                self.findings.append(error(
                    Id.REPEATED, child.span,
                    f"{show(child.name)} stands in {show(parent.name)} a second time; the first "
                    "counts, as in ACM's last tools", "keep one of them",
                ))
                continue
            found[child.name].append(child)
        for part in parts:
            if part.required and not found[part.name]:
                self.findings.append(error(
                    Id.MISSING, parent.span,
                    f"{show(parent.name)} has no {show(part.name)}, which the schema demands",
                    f"add {show(part.name)}",
                ))
        self._leftovers(parent, attributes, text=False)
        return found

    def text(self, element: Element, attributes: Collection[str] = ()) -> Name:
        """The text of an element that has no elements in it."""
        for child in element.children:
            self.findings.append(error(
                Id.UNKNOWN_ELEMENT, child.span,
                f"the element {show(child.name)} has no meaning in {show(element.name)}; it is "
                "left out", "delete it",
            ))
        self._leftovers(element, attributes, text=True)
        return Name(element.text, element.span)

    def texts(self, elements: Sequence[Element]) -> tuple[Name, ...]:
        """The texts of ``elements``; empty ones say nothing and never did."""
        names = (self.text(element) for element in elements)
        return tuple(name for name in names if name.text)

    def _leftovers(self, element: Element, attributes: Collection[str], *, text: bool) -> None:
        for key in element.attributes:
            if key not in attributes:
                self.findings.append(warning(
                    Id.UNKNOWN_ATTRIBUTE, element.span,
                    f"the attribute {show(key)} has no meaning in {show(element.name)}; it is "
                    "left out", "delete it, or mend its name",
                ))
        if not text and element.text:
            self.findings.append(warning(
                Id.STRAY_TEXT, element.span,
                f"the text {show(element.text)} has no meaning in {show(element.name)}; it is "
                "left out", "delete it, or put it into the element that it belongs to",
            ))
