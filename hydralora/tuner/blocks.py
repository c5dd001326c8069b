"""One router for all adapted layers of a block: who has its weights, and the gates of the pass that is going on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hydralora.errors import AdapterError

if TYPE_CHECKING:
    from hydralora.tuner.routed import RoutedLayer

Key = tuple[str, str]  # adapter, block


@dataclass
class Held:
    """Gates ``(..., N)`` of one block."""

    gates: Tensor
    maker: str  # the layer that computed them
    readers: set[str] = field(default_factory=set)


def block_of(name: str, reads_source: bool) -> str:
    """The block of the layer called ``name``: the innermost numbered module around it, or the whole model.

    Layers of a decoder that read the encoder's output see other tokens than their neighbours, so they are a block of
    their own.
    """
    around = name.split(".")[:-1]
    numbers = [place for place, part in enumerate(around) if part.isdigit()]
    block = ".".join(around[: numbers[-1] + 1]) if numbers else ""
    return f"{block} (source)" if reads_source else block


class SharedRouters:
    """The routers that blocks share in one model.

    The weights are those of the first layer of the block, in model order, that has the adapter. They are applied by
    the layer of the block that is called first in a pass, to what that layer reads; the others take its gates.
    """

    def __init__(self) -> None:
        self.owners: dict[Key, RoutedLayer] = {}
        self.held: dict[Key, Held] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a model begins with no pass."""
        return {"owners": self.owners, "held": {}}

    def forget(self, adapter: str) -> None:
        """An adapter is put in anew."""
        self.owners = {key: owner for key, owner in self.owners.items() if key[0] != adapter}

    def is_first(self, layer: RoutedLayer, adapter: str, block: str) -> bool:
        """Whether ``layer`` has the weights of the block's router; the first that asks has them."""
        return self.owners.setdefault((adapter, block), layer) is layer

    def router(self, layer: RoutedLayer, adapter: str, width: int) -> Any:
        """The router of a layer's block, to be applied to something ``width`` wide.

        Raises:
            AdapterError: When it was made for something of another width.
        """
        owner = self.owners[adapter, layer.blocks[adapter]]
        router = owner.hydralora_router[adapter]
        if router.weight.shape[-1] != width:
            raise AdapterError(
                f"Layer '{layer.name}' is called first in its block and gives its router {width} numbers, but the "
                f"router was made for the {router.weight.shape[-1]} of '{owner.name}'. Use `router_scope` layer, or "
                "leave one of them out of `target_modules`."
            )
        return router

    def gates(self, layer: RoutedLayer, adapter: str, tokens: int) -> Tensor | None:
        """Gates ``(..., N)`` that an earlier layer of the block computed; None where this one is the first.

        Raises:
            AdapterError: When this layer sees other tokens than the one that computed them.
        """
        held = self.held.get((adapter, layer.blocks[adapter]))
        if held is None or layer.name == held.maker:
            return None
        count = held.gates.shape[:-1].numel()
        if layer.name in held.readers or count != tokens:
            raise AdapterError(
                f"Layer '{layer.name}' takes the gates of '{held.maker}', which were computed for "
                f"{'an earlier call' if layer.name in held.readers else f'{count} tokens'}, but it reads {tokens} of "
                "its own. Use `router_scope` layer, or leave one of them out of `target_modules`."
            )
        held.readers.add(layer.name)
        return held.gates

    def hold(self, layer: RoutedLayer, adapter: str, gates: Tensor) -> None:
        """Keep the gates ``(..., N)`` for the other layers of the block."""
        self.held[adapter, layer.blocks[adapter]] = Held(gates, layer.name)
