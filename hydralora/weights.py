"""What the matrices of an adapter look like: how alike its heads are, and whether that means anything.

Everything is computed from small Gram matrices, so a 7B-shaped adapter needs megabytes. With
``K = B_cat^T B_cat`` ``(N r, N r)`` (blocks ``K_ij = B_i^T B_j``) and ``M = A A^T`` ``(r, r)``:

- cosine of heads: ``tr K_ij / sqrt(tr K_ii tr K_jj)``;
- cosine of updates ``B_i A``: ``tr(K_ij M) / sqrt(tr(K_ii M) tr(K_jj M))``;
- overlap of column spaces: mean squared cosine of the principal angles,
  ``||R_i^-T K_ij R_j^-1||_F^2 / r`` with ``K_ii = R_i^T R_i``;
- effective rank of ``B_i A``: ``exp(entropy)`` of its normalised singular values, which are the
  roots of the eigenvalues of ``R_i M R_i^T``.

Raw ``B`` of two runs must not be compared: ``(B, A)`` and ``(B Q, Q^-1 A)`` are the same adapter.
Products ``B A`` and column spaces do not change under ``Q``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from hydralora.errors import AdapterError

A_KEY = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.(?:hydralora_A|lora_A)(?:\.\w+)?\.weight$")
LAYER = re.compile(r"\.(\d+)\.")
DRAWS = 200  # random draws behind a chance level


@dataclass
class Module:
    """The matrices of one adapted layer, as float32: A ``(r, in)`` and heads ``(N, out, r)``."""

    name: str
    a: torch.Tensor
    heads: torch.Tensor
    shared_a: bool = True

    @property
    def layer(self) -> int:
        """Number of the transformer block, -1 where the name holds none."""
        found = LAYER.search(f".{self.name}.")
        return int(found.group(1)) if found else -1

    @property
    def kind(self) -> str:
        """Last part of the name: ``gate_proj``, ``q_proj``, ..."""
        return self.name.rsplit(".", 1)[-1]


def read_modules(adapter: Path) -> Iterator[Module]:
    """Stream the adapted layers of a saved adapter in model order, one in memory at a time.

    Raises:
        AdapterError: When the file is missing, truncated, pickled, or holds no A and B matrices.
    """
    path = adapter / "adapter_model.safetensors"
    if not path.exists():
        raise AdapterError(f"{adapter.name} holds no adapter_model.safetensors. Save the adapter again.")
    experts = _count_experts(adapter)
    try:
        with safe_open(path, framework="pt") as file:
            keys = set(file.keys())
            pairs = [(m["module"], key) for key in keys if (m := A_KEY.match(key))]
            if not pairs:
                raise AdapterError(
                    "This adapter has no A and B matrices (its method adds none), so there is "
                    "nothing to compare here; its losses and answers can still be seen."
                )
            for name, key in sorted(pairs, key=lambda pair: _natural(pair[0])):
                yield _module(name, key, file, experts)
    except SafetensorError as error:
        raise AdapterError(f"The adapter file is damaged: {error}. Save the adapter again.") from error


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _count_experts(adapter: Path) -> int:
    """Heads of each layer, from the adapter's configuration; methods with one head do not say."""
    try:
        return int(json.loads((adapter / "adapter_config.json").read_text("utf-8")).get("num_experts", 1))
    except (OSError, ValueError, TypeError) as error:
        raise AdapterError(f"{adapter.name} has no readable adapter_config.json. Save the adapter again.") from error


def _module(name: str, key: str, file: Any, experts: int) -> Module:
    a = file.get_tensor(key).float()
    b = file.get_tensor(key.replace("hydralora_A", "hydralora_B").replace("lora_A", "lora_B")).float()
    rank = b.shape[1] // experts
    heads = b.reshape(b.shape[0], experts, rank).permute(1, 0, 2).contiguous()
    return Module(name, a, heads, shared_a=a.shape[0] == rank)


@dataclass
class HeadFigures:
    """Comparison of the heads of one layer; matrices are ``(N, N)``, lists ``(N,)``."""

    name: str
    layer: int
    kind: str
    rank: int
    in_features: int
    out_features: int
    head_cosine: list[list[float]]
    update_cosine: list[list[float]]
    overlap: list[list[float]]
    update_norm: list[float]
    effective_rank: list[float]
    a_norm: float
    chance_cosine: float
    chance_overlap: float
    trained: bool = field(default=True)


def compare_heads(module: Module, seed: int = 0) -> HeadFigures:
    """All figures of one layer from its Gram matrices."""
    experts, out, rank = module.heads.shape
    stacked = module.heads.permute(1, 0, 2).reshape(out, experts * rank).double()
    gram = (stacked.T @ stacked).reshape(experts, rank, experts, rank).permute(0, 2, 1, 3)
    a = module.a.double()
    if module.shared_a:
        inner = (a @ a.T).expand(experts, experts, rank, rank)
    else:
        blocks = a.reshape(experts, rank, -1)
        inner = torch.einsum("iak,jbk->ijab", blocks, blocks)
    plain = torch.einsum("ijaa->ij", gram)
    updates = torch.einsum("ijab,ijab->ij", gram, inner)
    roots = _roots(gram)
    trained = bool(plain.diagonal().min() > 0)
    return HeadFigures(
        name=module.name, layer=module.layer, kind=module.kind, rank=rank,
        in_features=module.a.shape[1], out_features=out,
        head_cosine=_cosine(plain), update_cosine=_cosine(updates),
        overlap=_overlap(gram, roots).tolist(),
        update_norm=updates.diagonal().clamp(min=0).sqrt().tolist(),
        effective_rank=[_effective_rank(roots[i], inner[i, i]) for i in range(experts)],
        a_norm=float(a.norm()), trained=trained,
        **_chance(out, rank, seed),
    )  # fmt: skip


def _cosine(products: torch.Tensor) -> list[list[float]]:
    length = products.diagonal().clamp(min=0).sqrt()
    scale = torch.outer(length, length)
    return torch.where(scale > 0, products / scale.clamp(min=1e-300), 0.0).tolist()


def _roots(gram: torch.Tensor) -> list[torch.Tensor]:
    """Upper factors ``R_i`` with ``K_ii = R_i^T R_i``, ``(r, r)``, by eigenvalues (rank may be low)."""
    roots = []
    for i in range(gram.shape[0]):
        values, vectors = torch.linalg.eigh(gram[i, i])
        roots.append(values.clamp(min=0).sqrt()[:, None] * vectors.T)
    return roots


def _overlap(gram: torch.Tensor, roots: list[torch.Tensor]) -> torch.Tensor:
    experts, rank = gram.shape[0], gram.shape[-1]
    inverses = [torch.linalg.pinv(root, rtol=1e-6) for root in roots]
    result = torch.zeros(experts, experts, dtype=gram.dtype)
    for i in range(experts):
        for j in range(experts):
            result[i, j] = (inverses[i].T @ gram[i, j] @ inverses[j]).square().sum() / rank
    return result


def _effective_rank(root: torch.Tensor, inner: torch.Tensor) -> float:
    values = torch.linalg.eigvalsh(root @ inner @ root.T).clamp(min=0).sqrt()
    if values.sum() <= 0:
        return 0.0
    share = values / values.sum()
    return float(torch.exp(-(share * torch.log(share.clamp(min=1e-30))).sum()))


_CHANCE: dict[tuple[int, int, int], dict[str, float]] = {}


def _chance(out: int, rank: int, seed: int) -> dict[str, float]:
    """Upper 99 % points of |cosine| and overlap of two random heads of this shape.

    Exact in law and cheap: a random head enters only through ``(r, r)`` products, so draws are
    made in ``min(out, 512)`` dimensions and rescaled for wider layers.
    """
    key = (out, rank, seed)
    if key not in _CHANCE:
        generator = torch.Generator().manual_seed(seed)
        width = min(out, 512)
        first = torch.randn(DRAWS, width, rank, generator=generator)
        second = torch.randn(DRAWS, width, rank, generator=generator)
        cosine = torch.nn.functional.cosine_similarity(first.flatten(1), second.flatten(1)).abs()
        q1, q2 = torch.linalg.qr(first).Q, torch.linalg.qr(second).Q
        overlap = (q1.transpose(1, 2) @ q2).square().sum((1, 2)) / rank
        _CHANCE[key] = {
            "chance_cosine": float(cosine.quantile(0.99)) * (width / out) ** 0.5,
            "chance_overlap": min(1.0, float(overlap.quantile(0.99)) * width / out),
        }
    return _CHANCE[key]


def summarise_heads(figures: list[HeadFigures]) -> str:
    """One honest sentence on how alike the heads of this adapter are."""
    pairs = [(abs(f.update_cosine[i][j]), f.chance_cosine)
             for f in figures for i in range(len(f.update_norm)) for j in range(i)]  # fmt: skip
    if not pairs:
        return "One head in each layer: there is nothing to compare between heads."
    if not all(f.trained for f in figures):
        return "Some heads are still zero: these layers have learnt nothing yet."
    mean = float(np.mean([value for value, _ in pairs]))
    above = float(np.mean([value > chance for value, chance in pairs]))
    if above <= 0.05:
        return (
            f"No structure beyond chance: the updates of the heads are as unlike as random ones "
            f"(mean |cosine| {mean:.2f}; {above:.0%} of pairs above the 99 % chance level)."
        )
    if mean > 0.9:
        return f"The heads have become copies of each other (mean |cosine| {mean:.2f})."
    return (
        f"The updates of the heads are related but not the same: mean |cosine| {mean:.2f}, "
        f"{above:.0%} of pairs above the 99 % chance level."
    )
