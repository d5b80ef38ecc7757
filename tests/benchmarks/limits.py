"""Limits that move beside fixed ones, under virtual time: ``python -m tests.benchmarks.limits``.

An API that takes 64 requests at once and answers 429 to more, and a server that lets them wait.  Requests take 2 to 6
seconds.  The first minute is warm-up.
"""

from __future__ import annotations

from flashgraph.policies.limits import adaptive, fixed, steered
from flashgraph.run import events as ev
from tests.run.endpoints import Server, of, ran, requests

WARM = 60.0


def row(name: str, server: Server, count: int) -> str:
    """A line of the table: how long so many requests took, and what the endpoint saw."""
    result = ran(requests(count), {"task": server})
    ends = of(result, ev.CallEnded)
    seconds = ends[-1].at
    warm = [event for event in ends if event.at > WARM]
    refused = sum(event.how == "throttled" for event in warm) / len(warm)
    used = [event.in_flight for event in of(result, ev.CallStarted) if WARM < event.at < seconds - 20]
    waits = f"{sum(server.waits) / len(server.waits):.1f}" if server.waits else "-"
    flight = f"{sum(used) / len(used):.0f} of {server.slots}"
    return f"| {name} | {seconds:.0f} | {flight} | {refused:.2%} | {waits} |"


def main() -> None:
    print("| limit | seconds | in flight | 429 | waiting in the server |\n| --- | --- | --- | --- | --- |")
    for limits in (fixed(32), fixed(128), adaptive()):
        print(row(f"API, {limits}", Server(64, limits), 3000), flush=True)
    for limits, slots, count in ((fixed(128), 90, 3000), (steered(), 90, 3000), (steered(), 300, 6000)):
        print(row(f"queueing server, {limits}", Server(slots, limits, queues=True), count), flush=True)


if __name__ == "__main__":
    main()
