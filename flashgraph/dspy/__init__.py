"""`dspy.GEPA` on flashgraph's scheduler: change one name, and the examples overlap.

    from flashgraph.dspy import GEPA        # was: from dspy import GEPA

The extra ``dspy`` installs DSPy, whose programs, metrics and results are used as they are.  One attempt is one example
through the program, so the run decides about single examples and not about batches.
"""

from flashgraph.extras import require

require("dspy", "flashgraph.dspy")

from flashgraph.dspy.optimizing import GEPA, Detailed  # noqa: E402 - after `require`, as all that import the library
from flashgraph.dspy.programs import best_program, program_task  # noqa: E402

__all__ = ["GEPA", "Detailed", "best_program", "program_task"]
