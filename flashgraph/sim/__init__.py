"""Simulation on the injected clock: latency profiles of servers, a model that takes their time, and task worlds."""
