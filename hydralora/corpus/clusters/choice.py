"""How many clusters a corpus speaks for: as many as come back, well apart, when its texts are halved by lot.

For every k the texts are halved several times, both halves are clustered, and the second half is also dealt out to
the centres of the first. Three measures compare the two partitions of the second half, and one looks at the gaps:

- *prediction strength* (Tibshirani and Walther 2005, https://doi.org/10.1198/106186005X59243): in the worst cluster,
  the share of pairs that stay together; at least 0.8 is asked for, as they advise, and of those the k with the
  highest is taken (they take the largest k, which a stable half of one kind can raise);
- *agreement*: the adjusted Rand index (stability by splitting: Ben-Hur et al. 2002, Lange et al. 2004);
- *recurrence*: the share of texts in clusters that come back with a Jaccard index of 0.75 (Hennig 2007,
  https://doi.org/10.1016/j.csda.2006.11.025) and lie apart;
- *gap*: along the line that joins two centres, the distance of the means in units of the mean spread. One even
  spread cut in two has ``2 sqrt(3) = 3.46``, a normal one 2.65: clusters must lie further apart than pieces of one.

Beside it stand the elbow of the paper (Tian et al. 2024, appendix B) and its comparison over 15 trials.
How the limits were chosen, and on what: ``docs/clusters.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

SPLITS = 8
TRIALS = 15  # of the elbow, as in the paper: one for each half
HALF = 1_000  # texts of one half, at most
STARTS = 3
LEAST_ROWS = 20  # distinct texts for each expert
LEAST_SHARE = 0.02  # of a cluster, in a half
STRENGTH = 0.8
AS_STRONG = 0.02  # less than the highest strength: the larger number is taken
JACCARD = 0.75
EVEN_SPREAD = 2 * 3**0.5
RECURRING = 0.25  # share of texts from which there is a structure, though no number is clear


@dataclass(frozen=True)
class Choice:
    """What speaks for one k, as means over the splits; see above."""

    k: int
    inertia: float = 0.0
    silhouette: float = 0.0
    agreement: float = 1.0
    strength: float = 1.0
    gap: float = 0.0
    smallest: float = 1.0
    recurring: float = 0.0

    @property
    def is_clear(self) -> bool:
        """Whether this many clusters come back, lie apart and are large enough."""
        return self.strength >= STRENGTH and self.gap >= EVEN_SPREAD and self.smallest >= LEAST_SHARE


@dataclass(frozen=True)
class Suggestion:
    """The number of experts, the range it lies in, whether it is clear, and why, in plain words."""

    k: int
    low: int
    high: int
    is_clear: bool
    reason: str


def compare_choices(
    points: np.ndarray, k_max: int, seed: int, step: Callable[[int], None]
) -> tuple[list[Choice], list[int]]:
    """Measure k = 1 .. ``k_max`` on distinct texts ``(texts, dimensions)``, as far as there are texts for it; with
    the elbow of each trial."""
    points = points[np.abs(points).sum(1) > 0]
    k_max = min(k_max, len(points) // LEAST_ROWS)
    if k_max < 2:
        return [Choice(1)], []
    halves = _halves(len(points), seed)
    spread = np.array([((points[half] - points[half].mean(0)) ** 2).sum() for pair in halves for half in pair])
    choices, curves = [Choice(1, float(spread.mean()))], [spread]
    with threadpool_limits(1), single_threads(2) as pool:
        measured = pool.map(lambda k: _measure(points, k, halves, seed), range(2, k_max + 1))
        for choice, inertia in measured:
            step(choice.k)
            choices.append(choice)
            curves.append(inertia)
    return choices, [find_elbow(list(curve)) for curve in np.array(curves).T[:TRIALS]]


def single_threads(count: int) -> ThreadPoolExecutor:
    """``count`` threads of which none starts more: OpenMP keeps its limit by thread, so a limit set around the pool
    does not reach into it. Sums of several threads come in another order each time and differ in the last bit."""
    return ThreadPoolExecutor(count, initializer=threadpool_limits, initargs=(1,))


def _halves(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    size = min(count // 2, HALF)
    orders = [rng.permutation(count) for _ in range(SPLITS)]
    return [(order[:size], order[size : 2 * size]) for order in orders]


def _measure(
    points: np.ndarray, k: int, halves: list[tuple[np.ndarray, np.ndarray]], seed: int
) -> tuple[Choice, np.ndarray]:
    """The measures of one k, and the sum of squares in every half, ``(2 splits,)``."""
    rows, inertia = [], []
    for number, (first, second) in enumerate(halves):
        here = KMeans(k, n_init=STARTS, random_state=seed + number).fit(points[first])
        there = KMeans(k, n_init=STARTS, random_state=seed + number).fit(points[second])
        rows.append(_compare(points[second], here, there, k))
        inertia += [here.inertia_, there.inertia_]
    apart = silhouette_score(points[second], there.labels_)
    means = [float(value) for value in np.mean(rows, axis=0)]
    return Choice(k, float(np.mean(inertia)), float(apart), *means), np.array(inertia)


def _compare(points: np.ndarray, here: KMeans, there: KMeans, k: int) -> tuple[float, ...]:
    """Agreement, strength, gap, smallest share and recurrence of one split."""
    dealt, own = here.predict(points), there.labels_
    table = np.zeros((k, k))
    np.add.at(table, (own, dealt), 1)
    size, back = table.sum(1), table.sum(0)
    pairs = (table * (table - 1)).sum(1) / np.maximum(size * (size - 1), 1)
    jaccard = (table / np.maximum(size[:, None] + back[None] - table, 1)).max(0)
    gap = _gaps(points, dealt, here.cluster_centers_)
    recurring = back[(jaccard >= JACCARD) & (gap >= EVEN_SPREAD)].sum() / len(points)
    return adjusted_rand_score(own, dealt), pairs.min(), gap.min(), size.min() / len(points), recurring


def _gaps(points: np.ndarray, cluster: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Of every cluster, the smallest gap to another one, ``(k,)``."""
    k = len(centres)
    sizes = np.maximum(np.bincount(cluster, minlength=k), 1)[:, None]
    lines = (centres[:, None] - centres[None]).reshape(k * k, -1)
    along = points @ lines.T  # (points, k * k)
    member = np.eye(k)[cluster]
    mean = (member.T @ along / sizes).reshape(k, k, k)  # cluster, line
    spread = (member.T @ along**2 / sizes).reshape(k, k, k) - mean**2
    i, j = np.triu_indices(k, 1)
    apart = np.abs(mean[i, i, j] - mean[j, i, j]) / np.sqrt(np.maximum((spread[i, i, j] + spread[j, i, j]) / 2, 1e-12))
    gaps = np.full((k, k), np.inf)
    gaps[i, j] = gaps[j, i] = apart
    return gaps.min(1)


def find_elbow(inertia: list[float]) -> int:
    """The k (from 1) farthest below the straight line from the first to the last point of SSE(k)."""
    if len(inertia) < 3:
        return 1
    sse = np.array(inertia)
    sse = (sse - sse[-1]) / max(sse[0] - sse[-1], 1e-12)  # 1 .. 0
    return int(np.argmax(np.linspace(1.0, 0.0, len(sse)) - sse)) + 1


def suggest_experts(choices: list[Choice]) -> Suggestion:
    """The clear number of clusters with the highest strength; else a range, where there is a structure; else one."""
    clear = [choice for choice in choices[1:] if choice.is_clear]
    if clear:
        most = max(choice.strength for choice in clear)
        return _clear([choice for choice in clear if choice.strength >= most - AS_STRONG][-1])
    best = max((choice.recurring for choice in choices[1:]), default=0.0)
    if best >= RECURRING:
        return _unclear(choices, best)
    return Suggestion(1, 1, 1, True, _why_one(choices, best))


def _clear(choice: Choice) -> Suggestion:
    k = choice.k
    return Suggestion(
        k,
        k,
        k,
        True,
        f"{k} clusters come back when the texts are halved by lot (prediction strength {choice.strength:.2f} of 1; "
        f"{STRENGTH} is asked for), and they lie apart (gap {choice.gap:.1f}; one even spread cut in two has "
        f"{EVEN_SPREAD:.1f}). No other number comes back as well.",
    )


def _unclear(choices: list[Choice], best: float) -> Suggestion:
    """The numbers at which at least half as many texts lie in clusters that come back as at the best one."""
    fair = [choice.k for choice in choices[1:] if choice.recurring >= best / 2]
    low, high = fair[0], fair[-1]
    default = min(max(4, low), high)
    more = " or more" if high == choices[-1].k else ""
    span = f"Probably {low}" if low == high else f"Unclear: {low} to {high}"
    return Suggestion(
        default,
        low,
        high,
        False,
        f"{span}{more}. There are kinds of text (up to {best:.0%} lie in clusters that come back), "
        f"but no number of clusters comes back as a whole. {default} is a default, not a finding; the method is not "
        "sensitive between 2 and 4 experts.",
    )


def _why_one(choices: list[Choice], best: float) -> str:
    if len(choices) == 1:
        return (
            f"One expert is enough: there are fewer than {2 * LEAST_ROWS} distinct texts, too few to tell kinds apart."
        )
    return (
        "One expert is enough: no number of clusters comes back, well apart, when the texts are halved by lot "
        f"(at most {best:.0%} of the texts lie in clusters that do)."
    )
