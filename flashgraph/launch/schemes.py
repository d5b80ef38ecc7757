"""Schemes of model strings whose models need layers above `flashgraph.llm`: ``replay:``, ``sim:``, function files."""

from __future__ import annotations

from flashgraph.llm.protocol import Model
from flashgraph.llm.resolve import HIGHER, resolve

__all__: list[str] = []


def _replay(target: str, otherwise: Model | None) -> Model:
    from flashgraph.run.recorded import ReplayModel

    return ReplayModel(target, otherwise=otherwise)


def _sim(target: str, otherwise: Model | None) -> Model:
    from flashgraph.sim.model import SimModel

    return SimModel.of_profile(target)


def _function(target: str, otherwise: Model | None) -> Model:
    from flashgraph.graph.loading import load_model

    return resolve(load_model(target))


HIGHER.update(replay=_replay, sim=_sim, function=_function)
