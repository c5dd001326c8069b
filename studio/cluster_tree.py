"""The clusters of a corpus as a tree: what was split holds its parts, and is itself a part of what was split before."""

from __future__ import annotations

from dataclasses import dataclass, field

from hydralora.results import Clusters

Leaf = tuple[tuple[int, ...], int]  # the splits around a cluster, outermost first, and its number


@dataclass(frozen=True)
class Node:
    """A cluster, or what was split into several.

    Args:
        name: Of a cluster the name that is shown; of what was split, what it was called.
        rows: Examples in it.
        number: Of a cluster; None for what was split.
        parts: Of what was split, largest first as they were made.
    """

    name: str
    rows: int
    number: int | None = None
    parts: list[Node] = field(default_factory=list)

    def leaves(self) -> list[Node]:
        """The clusters in it."""
        return [self] if self.number is not None else [leaf for part in self.parts for leaf in part.leaves()]


def cluster_tree(found: Clusters) -> list[Node]:
    """The clusters by number, each inside what it is a part of; a split of which one part is left holds nothing."""
    paths = found.paths or [[] for _ in found.all_numbers]
    return _nodes(found, [(tuple(path), number) for path, number in zip(paths, found.all_numbers, strict=True)])


def _nodes(found: Clusters, leaves: list[Leaf]) -> list[Node]:
    nodes, seen = [], set[int]()
    for path, number in leaves:
        if not path:
            nodes.append(Node(found.shown_name(number), found.sizes[found.place(number)], number))
        elif path[0] not in seen:
            seen.add(path[0])
            inside = _nodes(found, [(around[1:], other) for around, other in leaves if around[:1] == path[:1]])
            rows = sum(node.rows for node in inside)
            nodes += [Node(found.branches[path[0]], rows, parts=inside)] if len(inside) > 1 else inside
    return nodes


def flattened(nodes: list[Node], depth: int = 0) -> list[tuple[int, Node]]:
    """Every node with how deep it lies, from the top down."""
    return [(at, node) for one in nodes for at, node in [(depth, one), *flattened(one.parts, depth + 1)]]
