"""Do the gates of an adapter follow groups of examples? Tested against shuffled groups."""

from __future__ import annotations

import numpy as np

from hydralora.analysis.groups import Grouping
from hydralora.results import GroupGates

PERMUTATIONS = 500
NMI_PERMUTATIONS = 100  # of every layer
BAND = 0.99  # a value above this share of shuffles is more than chance
SHOWN = 6  # examples kept behind each cell


def group_gates(gates: np.ndarray, groups: Grouping, seed: int = 0) -> GroupGates:
    """Do gate weights ``(examples, L, N)`` differ between groups of examples by more than chance?

    Per layer the share of variance between groups, ``R^2 = SS_between / SS_total`` of the gate
    vectors, and the normalised mutual information of group and leading expert (the one farthest
    above its own mean). Chance: the same after shuffling the labels ``PERMUTATIONS`` times; the
    band is the ``BAND`` quantile of the layer-mean.
    """
    names, index = list(groups.names), groups.of
    leading = (gates - gates.mean(0)).argmax(-1)  # (examples, L)
    if len(names) < 2 or len(names) == len(index):
        return GroupGates(names=names, real=False, sentence="There is only one group.")
    rng = np.random.default_rng(seed)
    r2 = _variance_share(gates, index, len(names))
    nmi = _mutual_information(index, leading)
    orders = [rng.permutation(index) for _ in range(PERMUTATIONS)]
    shuffles = [_variance_share(gates, order, len(names)).mean() for order in orders]
    nmi_shuffles = np.array([_mutual_information(order, leading) for order in orders[:NMI_PERMUTATIONS]])
    band = float(np.quantile(shuffles, BAND))
    p = (1 + sum(value >= r2.mean() for value in shuffles)) / (1 + PERMUTATIONS)
    real = bool(r2.mean() > band)
    means = np.stack([gates[index == g].mean(0) for g in range(len(names))])  # (groups, L, N)
    over_layers = gates.mean(1)  # (examples, N)
    cells = [
        [_strongest(over_layers[:, e], np.flatnonzero(index == g)) for e in range(gates.shape[2])]
        for g in range(len(names))
    ]
    verdict = (
        f"Routing weights differ between groups by more than chance (R² {r2.mean():.3f}, shuffled labels "
        f"reach {band:.3f}; p = {p:.3f})."
        if real
        else f"Routing weights do not differ between groups by more than chance (R² {r2.mean():.3f}, "
        f"shuffled labels reach {band:.3f})."
    )
    return GroupGates(
        names=names,
        sizes=np.bincount(index).tolist(),
        cells=cells,
        mean=means.mean(1).round(5).tolist(),
        layer_mean=means.round(5).tolist(),
        r2=r2.round(5).tolist(),
        band=band,
        p=float(p),
        real=real,
        nmi=np.round(nmi, 5).tolist(),
        nmi_band=float(np.quantile(nmi_shuffles, BAND)),
        sentence=verdict,
    )


def _strongest(gates: np.ndarray, members: np.ndarray) -> list[int]:
    """Places (in the order of the examples) of the ``SHOWN`` members with the highest gate ``(examples,)``."""
    return [int(i) for i in members[np.argsort(-gates[members], kind="stable")[:SHOWN]]]


def _variance_share(gates: np.ndarray, index: np.ndarray, groups: int) -> np.ndarray:
    """``SS_between / SS_total`` per layer, ``(L,)``."""
    centred = gates - gates.mean(0)
    total = (centred**2).sum((0, 2))
    onehot = np.eye(groups)[index]  # (examples, groups)
    sums = (onehot.T @ centred.reshape(len(gates), -1)).reshape(groups, *gates.shape[1:])
    between = (sums**2 / onehot.sum(0)[:, None, None]).sum((0, 2))
    return between / np.maximum(total, 1e-12)


def _mutual_information(index: np.ndarray, leading: np.ndarray) -> np.ndarray:
    """Normalised mutual information ``2 I / (H + H)``: groups ``(examples,)``, leading experts ``(examples, L)``."""
    count, layers = leading.shape
    groups, experts = int(index.max()) + 1, int(leading.max()) + 1
    cells = (np.arange(layers) * groups + index[:, None]) * experts + leading
    joint = np.bincount(cells.ravel(), minlength=layers * groups * experts).reshape(layers, groups, experts) / count

    def entropy(shares: np.ndarray) -> np.ndarray:
        return -(shares * np.log(np.where(shares > 0, shares, 1.0))).reshape(layers, -1).sum(1)

    own, other = entropy(joint.sum(2)), entropy(joint.sum(1))
    information = own + other - entropy(joint)
    return np.where(own + other > 1e-12, 2 * information / np.maximum(own + other, 1e-12), 1.0)
