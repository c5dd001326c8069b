"""What the matrices of an adapter look like: how alike its heads are, and whether that means anything.

Everything is computed from small Gram matrices, so a 7B-shaped adapter needs megabytes. With
``K = B_cat^T B_cat`` ``(N r, N r)`` (blocks ``K_ij = B_i^T B_j``) and ``M_i = A_i A_i^T`` ``(r, r)``
(one ``M`` where A is shared):

- cosine of heads: ``tr K_ij / sqrt(tr K_ii tr K_jj)``;
- cosine of updates ``U_i = B_i A_i``: ``tr(K_ij M) / sqrt(tr(K_ii M) tr(K_jj M))``;
- overlap of column spaces: mean squared cosine of the principal angles,
  ``||R_i^-T K_ij R_j^-1||_F^2 / r`` with ``K_ii = R_i^T R_i``;
- linear CKA of the updates, output units as rows, not centred (Kornblith et al. 2019,
  https://arxiv.org/abs/1905.00414): ``|U_i^T U_j|^2 / (|U_i^T U_i| |U_j^T U_j|)``, where
  ``|U_i^T U_j|^2 = tr(M_i K_ij M_j K_ji)``. An overlap that weighs directions by their size;
- effective rank of ``U_i``: ``exp(entropy)`` of its normalised singular values, which are the
  roots of the eigenvalues of ``R_i M_i R_i^T``.

Raw ``B`` of two runs must not be compared: ``(B, A)`` and ``(B Q, Q^-1 A)`` are the same adapter.
Products ``B A`` and column spaces do not change under ``Q``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.stats import binom

from hydralora.adapters.matrices import Module, count_modules, read_modules
from hydralora.analysis.chance import POINT, cka_level, cosine_level, overlap_level, update_levels
from hydralora.progress import SILENT, Progress
from hydralora.results import HeadFigures, Heads

MEASURES = ("update_cosine", "head_cosine", "overlap", "cka")  # of two heads, all symmetric
LEVEL = 0.001  # chance of calling random heads alike


def compare_heads(module: Module) -> HeadFigures:
    """All figures of one layer from its Gram matrices."""
    experts, out, rank = module.heads.shape
    stacked = module.heads.permute(1, 0, 2).reshape(out, experts * rank)
    gram = (stacked.T @ stacked).double().reshape(experts, rank, experts, rank).permute(0, 2, 1, 3)  # (N, N, r, r)
    inner = _inner(module, experts, rank)  # (N, N, r, r)
    plain = torch.einsum("ijaa->ij", gram)  # (N, N), tr K_ij
    updates = torch.einsum("ijab,ijab->ij", gram, inner)  # (N, N), tr(K_ij M_ij)
    roots = _roots(gram)
    return HeadFigures(
        name=module.name,
        layer=module.layer,
        kind=module.kind,
        rank=rank,
        in_features=module.a.shape[1],
        out_features=out,
        head_cosine=_cosine(plain),
        update_cosine=_cosine(updates),
        overlap=_overlap(gram, roots).tolist(),
        cka=_cka(gram, inner).tolist(),
        update_norm=updates.diagonal().clamp(min=0).sqrt().tolist(),
        effective_rank=[_effective_rank(roots[i], inner[i, i]) for i in range(experts)],
        a_norm=float(module.a.norm()),
        trained=bool(plain.diagonal().min() > 0),
        chance_head_cosine=float(cosine_level(out * rank)),
        chance_update_cosine=update_levels(inner, out),
        chance_overlap=overlap_level(out, rank, rank),
        chance_cka=cka_level(inner[0, 0], out),
    )


def _inner(module: Module, experts: int, rank: int) -> torch.Tensor:
    """``A_i A_j^T`` as ``(N, N, r, r)``."""
    if module.shared_a:
        return (module.a @ module.a.T).double().expand(experts, experts, rank, rank)
    products = (module.a @ module.a.T).double()
    return products.reshape(experts, rank, experts, rank).permute(0, 2, 1, 3)


def _cosine(products: torch.Tensor) -> list[list[float]]:
    """Cosines ``(N, N)`` of vectors with these inner products ``(N, N)``; 0 beside a vector of length 0."""
    length = products.diagonal().clamp(min=0).sqrt()
    scale = torch.outer(length, length)
    return torch.where(scale > 0, products / scale.clamp(min=1e-300), 0.0).tolist()


def _cka(gram: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Linear CKA ``(N, N)`` from ``K`` and ``M``, both ``(N, N, r, r)``."""
    own = torch.einsum("iiab->iab", inner)  # (N, r, r)
    products = torch.einsum("iab,ijbc,jcd,ijad->ij", own, gram, own, gram)
    length = products.diagonal().clamp(min=0).sqrt()
    scale = torch.outer(length, length)
    return torch.where(scale > 0, products / scale.clamp(min=1e-300), 0.0)


def _roots(gram: torch.Tensor) -> list[torch.Tensor]:
    """Upper factors ``R_i`` with ``K_ii = R_i^T R_i``, ``(r, r)``, by eigenvalues (rank may be low)."""
    roots = []
    for i in range(gram.shape[0]):
        values, vectors = torch.linalg.eigh(gram[i, i])
        roots.append(values.clamp(min=0).sqrt()[:, None] * vectors.T)
    return roots


def _overlap(gram: torch.Tensor, roots: list[torch.Tensor]) -> torch.Tensor:
    """Mean squared cosine of principal angles ``(N, N)`` from ``K`` ``(N, N, r, r)`` and its roots ``(r, r)``."""
    experts, rank = gram.shape[0], gram.shape[-1]
    inverses = [torch.linalg.pinv(root, rtol=1e-6) for root in roots]
    result = torch.zeros(experts, experts, dtype=gram.dtype)
    for i in range(experts):
        for j in range(experts):
            result[i, j] = (inverses[i].T @ gram[i, j] @ inverses[j]).square().sum() / rank
    return result


def _effective_rank(root: torch.Tensor, inner: torch.Tensor) -> float:
    """``exp(entropy)`` of the singular values of an update, from ``R_i`` and ``M_i``, both ``(r, r)``."""
    values = torch.linalg.eigvalsh(root @ inner @ root.T).clamp(min=0).sqrt()
    if values.sum() <= 0:
        return 0.0
    share = values / values.sum()
    return float(torch.exp(-(share * torch.log(share.clamp(min=1e-30))).sum()))


def count_is_chance(pairs: list[tuple[float, float]], tests: int = 1) -> bool:
    """Whether no more pairs exceed their 99 % level than noise would, at ``LEVEL`` shared among ``tests``.

    Of n pairs of random heads about n / 100 exceed it; more are a finding when the binomial
    probability of so many is at most ``LEVEL / tests``.
    """
    above = sum(value > chance for value, chance in pairs)
    return bool(binom.sf(above - 1, len(pairs), 1 - POINT) > LEVEL / tests)


def group_heads(figures: list[HeadFigures]) -> list[list[int]]:
    """Groups of heads whose updates are alike in more layers than chance allows, largest first.

    A head alone is a group of one. Two heads belong together when they, or heads between them, do.
    """
    experts = len(figures[0].update_norm)
    group = list(range(experts))
    pairs = [(i, j) for i in range(experts) for j in range(i)]
    for place, (i, j) in enumerate(pairs):
        if not count_is_chance([f.pairs("update_cosine")[place] for f in figures], len(pairs)):
            group = [group[i] if g == group[j] else g for g in group]
    found = [[e for e in range(experts) if group[e] == g] for g in dict.fromkeys(group)]
    return sorted(found, key=len, reverse=True)


def summarise_heads(figures: list[HeadFigures]) -> str:
    """One honest sentence on how alike the heads of this adapter are."""
    pairs = [pair for f in figures for pair in f.pairs("update_cosine")]
    spaces = [pair for f in figures for pair in f.pairs("overlap")]
    if not pairs:
        return "One head in each layer: there is nothing to compare between heads."
    if not all(f.trained for f in figures):
        return "Some heads are still zero: these layers have learnt nothing yet."
    mean, shared = (float(np.mean([value for value, _ in found])) for found in (pairs, spaces))
    above = float(np.mean([value > chance for value, chance in pairs]))
    share = f"mean |cosine| {mean:.2f}; {above:.0%} of pairs above the 99 % chance level"
    if mean > 0.9:
        return f"The heads have become copies of each other (mean |cosine| {mean:.2f})."
    if shared > 0.9 and not count_is_chance(spaces):
        return (
            f"The heads write into the same directions but mix them differently (overlap of column spaces "
            f"{shared:.2f}, mean |cosine| {mean:.2f})."
        )
    if count_is_chance(pairs):
        return f"No structure beyond chance: the updates of the heads are as unlike as random ones ({share})."
    groups = group_heads(figures)
    if 1 < len(groups) < len(figures[0].update_norm):
        names = " | ".join(", ".join(f"E{e + 1}" for e in group) for group in groups)
        return (
            f"The updates of the heads fall into {len(groups)} groups, alike within and not beyond: {names} ({share})."
        )
    return f"The updates of the heads are related but not the same: {share}."


def compare_adapter(adapter: Path, progress: Progress = SILENT) -> list[HeadFigures]:
    """``compare_heads`` of every layer of an adapter on disk.

    Raises:
        AdapterError: When the adapter cannot be read or has no A and B matrices.
        StoppedError: When asked to stop.
    """
    total, figures = count_modules(adapter), []
    for module in read_modules(adapter):
        progress.check()
        figures.append(compare_heads(module))
        progress.report(len(figures) / total, f"{len(figures):,} of {total:,} layers compared")
    return figures


def heads_of(figures: list[HeadFigures]) -> Heads:
    """What is stored and shown of one step: every layer's figures and one sentence."""
    return Heads(layers=figures, sentence=summarise_heads(figures))
