"""The proof of flashgraph's own scheduler: properties of whole runs, reference models of its parts, orders of tiny
runs.

``python -m tests.proof`` (``make proof``) tries them all.  The wheel does not contain them.
"""
