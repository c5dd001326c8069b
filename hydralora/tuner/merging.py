"""What a routed layer is worth as one weight: its update where the gates are fixed, merged and taken off again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from hydralora.errors import AdapterError
from hydralora.tuner.register import register_when_ready


class Merges(BaseTunerLayer):
    """The part of a routed layer that PEFT's ``merge`` and ``unmerge`` ask for."""

    check_fixed: Callable[[str], list[float]]
    name: str
    r: dict[str, int]
    num_experts: dict[str, int]
    scaling: dict[str, float]
    options: dict[str, Any]
    hydralora_A: Any
    hydralora_B: Any
    hydralora_start: Any

    def get_delta_weight(self, adapter: str) -> Tensor:
        """``s * sum_i g_i B_i A_i`` ``(out, in)`` of an adapter whose gates are fixed.

        Raises:
            AdapterError: When a router decides per token, or an example's task; no single matrix equals that.
        """
        gates = self.check_fixed(adapter)
        count, rank = self.num_experts[adapter], self.r[adapter]
        a, b = self.hydralora_A[adapter].weight, self.hydralora_B[adapter].weight
        weights = torch.tensor(gates, dtype=b.dtype, device=b.device).repeat_interleave(rank)
        stacked = a.repeat(count, 1) if self.options[adapter].shared_a else a
        delta = (b * weights) @ stacked
        if adapter in self.hydralora_start:
            start = self.hydralora_start[adapter]
            delta = delta - (start.first_b @ start.first_a).to(delta)
        return self.scaling[adapter] * delta

    def _delta_for_base(self, name: str) -> Tensor:
        delta = self.get_delta_weight(name)
        return delta.T if isinstance(self.get_base_layer(), Conv1D) else delta

    def check_base_merges(self) -> None:
        """Refuse a base weight that is not kept as numbers: adding to its codes would ruin it.

        Raises:
            AdapterError: Naming the layer and the type of its weight.
        """
        weight = self.get_base_layer().weight
        if not weight.is_floating_point():
            raise AdapterError(
                f"Layer '{self.name}': the base weight is quantised ({weight.dtype}), so nothing can be added to it "
                "exactly. Load the base unquantised, and merge there."
            )

    def check_merges(self, name: str) -> None:
        """Refuse what cannot be merged, before any weight is touched.

        Raises:
            AdapterError: When the base is quantised, or a router decides per token.
        """
        self.check_base_merges()
        self.get_delta_weight(name)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the fixed updates of the adapters to the base weight.

        Raises:
            AdapterError: When the base is quantised, or a router decides per token.
        """
        self.check_base_merges()
        for name in check_adapters_to_merge(self, adapter_names):
            if name in self.hydralora_A:
                weight = self.get_base_layer().weight
                merged = weight.data + self._delta_for_base(name).to(weight.dtype)
                if safe_merge and not torch.isfinite(merged).all():
                    raise AdapterError(
                        f"Layer '{self.name}': NaNs detected in the merged weights. The adapter {name} seems to be "
                        "broken."
                    )
                weight.data = merged
                self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take merged updates off again."""
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            weight = self.get_base_layer().weight
            weight.data -= self._delta_for_base(name).to(weight.dtype)


register_when_ready()
