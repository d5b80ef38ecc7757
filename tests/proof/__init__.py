"""The proof of flashgraph's own scheduler: properties of whole runs, reference models of its parts, all orders of tiny
runs.

``python -m tests.proof`` (``make proof``) tries them all. None of it is shipped in the wheel.
"""
