"""The child process of `flashgraph.llm.local`: a llama.cpp server on loopback that lives as long as its parent.

Its command line is one JSON object (see `serve`).  It prints only the server's address, and exits when its standard
input ends, because the pipe closes however the parent dies.  It is a process of its own because the engine's threads
spin, and would starve an event loop beside them.
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
    # The engine's destructors would wait for running requests, which nobody needs any more.
    os._exit(0)


def serve(model: str, parallel: int, context: int, threads: int) -> Any:
    """Start the engine with ``parallel`` slots that share ``context`` tokens; keep the result to keep the server."""
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
    # States of evicted prompts stay in memory; the engine's own bound is 8 GiB.
    params.cache_ram_mib = PROMPT_CACHE_MIB
    # A web page in the user's browser must not be able to send requests.
    params.ui = False
    params.cors_origins = ""
    return xllamacpp.Server(params)


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    parent = os.getppid()
    server = serve(**json.loads(sys.argv[1]))
    print(server.listening_address, flush=True)
    # Besides the pipe, because a process that the parent forked may hold the pipe's other end open.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    main()
