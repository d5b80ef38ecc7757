"""Simulation in virtual time: tasks with a known truth, latency profiles, and models that take a profile's time."""

from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES, Lengths, Profile
from flashgraph.sim.world import SOLVED, UNSOLVED, RuleSample, World

__all__ = [
    "PROFILES",
    "SOLVED",
    "UNSOLVED",
    "Lengths",
    "Profile",
    "RuleSample",
    "SimModel",
    "World",
]
