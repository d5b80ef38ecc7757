"""The world of the simulated server, to watch a schedule without a model (docs/how-to/simulated-server.md).

flashgraph sim-server --speed 10
flashgraph run gepa --task examples/sim_world/task.py --model vllm:http://127.0.0.1:8000 --minutes 2
"""

from flashgraph.sim import World

task = World(seed=0).task()
