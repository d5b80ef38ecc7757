"""Derive the endpoints that a run is planned with from each role's model."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from flashgraph.llm.ensemble import members
from flashgraph.llm.limits import Limits, fixed
from flashgraph.llm.protocol import Model

__all__ = ["Endpoints"]


@attrs.frozen
class Endpoints:
    """The endpoints of a run.

    ``models`` and ``limits`` are by endpoint.  ``services`` are by name: the weights of the service's endpoints.
    ``roles`` gives the service of each role.
    """

    models: Mapping[str, Model]
    limits: Mapping[str, Limits]
    services: Mapping[str, Mapping[str, float]]
    roles: Mapping[str, str]

    @classmethod
    def of(cls, models: Mapping[str, Model]) -> Endpoints:
        """Make each distinct model object an endpoint, even if names are equal; roles that share objects share it."""
        distinct = {id(each): each for model in models.values() for each, _ in members(model)}
        names: dict[int, str] = {}
        for key, model in distinct.items():
            same = sum(n.split("#")[0] == model.name for n in names.values())
            names[key] = f"{model.name}#{same + 1}" if same else model.name
        services: dict[str, Mapping[str, float]] = {}
        roles: dict[str, str] = {}
        for role, model in models.items():
            weights: dict[str, float] = {}
            for each, weight in members(model):
                weights[names[id(each)]] = weights.get(names[id(each)], 0.0) + weight
            roles[role] = next((s for s, known in services.items() if known == weights), "")
            if not roles[role]:
                name = " + ".join(weights)
                # The same endpoints with other weights are a service of their own.
                roles[role] = f"{name} for {role}" if name in services else name
                services[roles[role]] = weights
        return cls(
            {names[key]: model for key, model in distinct.items()},
            {names[key]: limits_of(model) for key, model in distinct.items()},
            services,
            roles,
        )


def limits_of(model: Model) -> Limits:
    """Return a model's own limits, or else its fixed one."""
    own = getattr(model, "limits", None)
    return own if isinstance(own, Limits) else fixed(model.limit)
