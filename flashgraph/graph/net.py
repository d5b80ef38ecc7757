"""A directed graph of names, as far as checking and ordering a user's graph asks for it.

A library would do, and the tests hold this against one: importing networkx takes longer than everything else that
``flashgraph check`` or the start of a run does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["Net"]


class Net:
    """``nodes`` in order, and the edges between them; edges of the same two nodes are one."""

    def __init__(self, nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> None:
        self._next: dict[str, dict[str, None]] = {name: {} for name in nodes}
        for src, dst in edges:
            self._next.setdefault(src, {})[dst] = None
            self._next.setdefault(dst, {})

    @property
    def edges(self) -> Iterator[tuple[str, str]]:
        return ((src, dst) for src, following in self._next.items() for dst in following)

    def reversed(self) -> Net:
        return Net(self._next, ((dst, src) for src, dst in self.edges))

    def distances(self, *starts: str) -> dict[str, int]:
        """How many edges lead to each node that can be reached from the nearest of ``starts``."""
        found = dict.fromkeys(starts, 0)
        order = list(found)
        for name in order:  # grows meanwhile
            for following in self._next[name]:
                if following not in found:
                    found[following] = found[name] + 1
                    order.append(following)
        return found

    def after(self, start: str) -> set[str]:
        """What can be reached from a node, without that node itself."""
        return set(self.distances(start)) - {start}

    def before(self, end: str) -> set[str]:
        """From where a node can be reached, without that node itself."""
        return self.reversed().after(end)

    def components(self) -> dict[str, frozenset[str]]:
        """By node: all that lie on a cycle with it, and itself."""
        after = {name: self.after(name) for name in self._next}
        return {name: frozenset({name, *(n for n in after[name] if name in after[n])}) for name in self._next}

    def path(self, start: str, end: str) -> list[str] | None:
        """A shortest way, its ends included; None where there is none."""
        distance = self.reversed().distances(end)
        if start not in distance:
            return None
        way = [start]
        while way[-1] != end:
            way.append(min(self._next[way[-1]], key=lambda name: distance.get(name, len(distance))))
        return way

    def cycle(self) -> list[str] | None:
        """The nodes of one cycle in order; None where there is none."""
        done: set[str] = set()

        def found(path: list[str]) -> list[str] | None:
            for following in self._next[path[-1]]:
                if following in path:
                    return path[path.index(following) :]
                if following not in done and (cycle := found([*path, following])) is not None:
                    return cycle
            done.add(path[-1])
            return None

        return next((cycle for name in self._next if (cycle := found([name])) is not None), None)

    def without(self, src: str, dst: str) -> Net:
        """The same without one edge."""
        return Net(self._next, (edge for edge in self.edges if edge != (src, dst)))
