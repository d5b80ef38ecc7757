"""`gepa.optimize` on flashgraph's scheduler: change one import, and the calls overlap.

    from flashgraph.gepa import optimize        # was: from gepa import optimize

The extra ``gepa`` installs the `gepa` package (0.1.4), whose adapters, templates and results are used as they are.
``schedule="lockstep"`` is the package itself.  Other schedules run flashgraph's GEPA graph.  It asks the adapter for
one sample at a time, in threads, and decides before the slowest sample is in.
"""

from flashgraph.extras import require

require("gepa", "flashgraph.gepa")

from flashgraph.gepa.adapters import adapter_task  # noqa: E402 - after `require`, as all that import the package
from flashgraph.gepa.optimizing import Installed, install, optimize, uninstall  # noqa: E402
from flashgraph.gepa.result import Optimized  # noqa: E402

__all__ = ["Installed", "Optimized", "adapter_task", "install", "optimize", "uninstall"]
