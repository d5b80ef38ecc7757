"""Traces: the inputs and outputs of each component of a program during one attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["FEEDBACK", "INPUTS", "OUTPUT", "Record", "Trace"]

Record = Mapping[str, str]
"""Texts under headings, in the order in which a reflection shows them."""

INPUTS = "Inputs"
OUTPUT = "Generated Outputs"
FEEDBACK = "Feedback"


@attrs.frozen
class Trace:
    """The records of one attempt, by component.

    An ``attempt(candidate, sample, llm, trace)`` fills it; a reflection shows a component's own records when it
    rewrites that component.  The headings of `record` are those of GEPA (arXiv:2507.19457, appendix on prompts).
    """

    records: dict[str, list[Record]] = attrs.field(factory=dict)

    def record(self, component: str, inputs: Any, output: Any, feedback: Any = "") -> None:
        """Note the inputs and the output of one use of a component; without ``feedback``, the score's is shown."""
        said = {FEEDBACK: str(feedback)} if feedback else {}
        self.add(component, {INPUTS: inputs, OUTPUT: output, **said})

    def add(self, component: str, record: Mapping[str, Any]) -> None:
        """Note a record under headings of its own."""
        self.records.setdefault(component, []).append({str(name): str(text) for name, text in record.items()})
