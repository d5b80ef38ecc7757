"""The declared type of the value that a source or stage returns, and a check of the value against it.

Only the class is checked: a check of a value's contents would cost more than most stages.
"""

from __future__ import annotations

from typing import Self, TypeVar

import attrs

from flashgraph.graph.check import Ports
from flashgraph.graph.ports import Several
from flashgraph.graph.spec import SourceSpec, StageSpec
from flashgraph.graph.types import classes_of, show

__all__ = ["ReturnType"]

T = TypeVar("T")


@attrs.frozen
class ReturnType:
    """``what`` names the node, ``classes`` are those that it may return (None: any).

    ``declared`` is the type as the user wrote it.
    """

    what: str
    classes: tuple[type, ...] | None
    declared: str

    @classmethod
    def of(cls, spec: SourceSpec | StageSpec, ports: Ports) -> Self:
        """Return what a node declares, by the ``ports`` of its graph."""
        several, gives = spec.name in ports.several, ports.gives[spec.name]
        classes = (Several,) if several else classes_of(gives)
        declared = f"Several[{show(gives)}]" if several else show(gives)
        if spec.name in ports.optional:
            classes = None if classes is None else (*classes, type(None))
            declared += " | None"
        return cls(f"{spec.kind} {spec.name!r}", classes, declared)

    def checked(self, value: T) -> T:
        """Return the value.  Raises TypeError if its class was not declared."""
        if self.classes is None or isinstance(value, self.classes):
            return value
        name = type(value).__name__
        found = "None" if value is None else f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
        fix = ". Fix: return fg.Several(...) of them" if Several in self.classes else ""
        raise TypeError(f"{self.what} returned {found}; it declares {self.declared}{fix}")
