"""Reference models: each part of the scheduler is compared with a second, plain implementation.

The invariants on whole runs find broken promises.  A limit that grows by two instead of one breaks none: it makes a
sound run of another policy.  So does a rule that releases a group one member late.  Each part that decides by numbers
therefore has a reference model here.  The model follows the part's docstring and is slow: it counts with whole numbers,
fractions and plain lists.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.proof.oracles.accounts import ACCOUNTS
from tests.proof.oracles.asking import ASKING
from tests.proof.oracles.endpoints import ENDPOINTS
from tests.proof.oracles.ends import ENDS
from tests.proof.oracles.functions import FUNCTIONS
from tests.proof.oracles.limits import LIMITS
from tests.proof.oracles.plans import PLANS
from tests.proof.oracles.pools import POOLS
from tests.proof.oracles.queues import QUEUES
from tests.proof.oracles.repairs import REPAIRS
from tests.proof.oracles.routes import ROUTES
from tests.proof.oracles.rules import RULES
from tests.proof.oracles.servers import SERVERS
from tests.proof.oracles.sessions import SESSIONS
from tests.proof.oracles.settings import SETTINGS
from tests.proof.oracles.stages import STAGES
from tests.proof.tried import Property

__all__ = ["ORACLES"]

ORACLES: Mapping[str, Property] = {
    **RULES, **LIMITS, **ENDPOINTS, **ACCOUNTS, **QUEUES, **POOLS, **SETTINGS, **PLANS, **ASKING, **ENDS,
    **FUNCTIONS,
    **REPAIRS, **ROUTES, **SERVERS, **SESSIONS, **STAGES,
}  # fmt: skip
