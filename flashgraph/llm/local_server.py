"""The child process of `flashgraph.llm.local`: one llama.cpp server on loopback, for as long as its parent lives.

Its command line is one JSON object (see `serve`).  It prints the server's address as its only line, and ends when
its standard input ends: the pipe closes with the parent however that dies.  An own process, because the engine's
threads spin and would starve an event loop beside them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

__all__ = ["serve"]

PROMPT_CACHE_MIB = 512


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    # The engine's destructors wait for running requests; nobody does any more.
    os._exit(0)


def serve(model: str, parallel: int, context: int, threads: int) -> Any:
    """Start the engine with ``parallel`` slots that share ``context`` tokens; the server lives with the result."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = parallel
    params.n_ctx = context
    params.kv_unified = True
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    # States of prompts that lost their slot are kept in memory; the engine's own bound is 8 GiB.
    params.cache_ram_mib = PROMPT_CACHE_MIB
    # A web page in the user's browser must not be able to ask.
    params.ui = False
    params.cors_origins = ""
    return xllamacpp.Server(params)


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    parent = os.getppid()
    server = serve(**json.loads(sys.argv[1]))
    print(server.listening_address, flush=True)
    # A second watch beside the pipe: a process that the parent forked may hold the pipe's other end open.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    main()
