"""Parts of the scheduler beside a second, plain definition of what they do.

The invariants on whole runs find what breaks a promise; they cannot find a limit that grows by two in the place of one,
or a rule that releases a group one member late, which is a sound run of another policy.  Each part that decides by
numbers is therefore said once more here, in the words of its docstring and slowly: from whole numbers, fractions and
lists that are looked through at each question.
"""

from __future__ import annotations

from collections.abc import Mapping

from flashgraph.testing.restated.accounts import ACCOUNTS
from flashgraph.testing.restated.asking import ASKING
from flashgraph.testing.restated.endpoints import ENDPOINTS
from flashgraph.testing.restated.ends import ENDS
from flashgraph.testing.restated.functions import FUNCTIONS
from flashgraph.testing.restated.limits import LIMITS
from flashgraph.testing.restated.plans import PLANS
from flashgraph.testing.restated.pools import POOLS
from flashgraph.testing.restated.queues import QUEUES
from flashgraph.testing.restated.repairs import REPAIRS
from flashgraph.testing.restated.routes import ROUTES
from flashgraph.testing.restated.rules import RULES
from flashgraph.testing.restated.servers import SERVERS
from flashgraph.testing.restated.sessions import SESSIONS
from flashgraph.testing.restated.settings import SETTINGS
from flashgraph.testing.restated.stages import STAGES
from flashgraph.testing.tried import Property

__all__ = ["RESTATED"]

RESTATED: Mapping[str, Property] = {
    **RULES, **LIMITS, **ENDPOINTS, **ACCOUNTS, **QUEUES, **POOLS, **SETTINGS, **PLANS, **ASKING, **ENDS,
    **FUNCTIONS,
    **REPAIRS, **ROUTES, **SERVERS, **SESSIONS, **STAGES,
}  # fmt: skip
