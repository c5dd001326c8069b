"""The forward pass that a layer is part of: what is padding, where sequences begin, and what its routers decided.

A layer sees only its input. The model is called with the rest: masks, positions, labels. Two hooks on the model keep
that for its layers, and add the auxiliary losses of the routers to the loss that the model gives, whoever calls it:
a Trainer, another trainer, or a loop of one's own.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from hydralora.errors import AdapterError
from hydralora.tuner.blocks import SharedRouters, block_of
from hydralora.tuner.losses import LossWeights, auxiliary_loss

# What a model is called with that says where its tokens are: how many there are, and more about each.
SIZED = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")
KEPT = ("attention_mask", "position_ids", "cu_seq_lens_q", "seq_idx", "decoder_attention_mask", "labels")
IGNORED = -100  # labels that count for nothing, in all of transformers
CROSS = ("crossattention", "cross_attn", "encoder_attn", "encdecattention")  # layers that read the encoder's output


class Routed(NamedTuple):
    """What one router decided in one call."""

    adapter: str
    logits: Tensor  # (..., N)
    gates: Tensor  # (..., N), float32 or wider
    real: Tensor | None  # (...) False for padding; None where there is none
    weights: LossWeights
    tasks: Tensor | None = None  # (batch,) of examples in turn, -1 for none; None where nobody has told them


class Pass:
    """What the layers of one model share about the pass that is going on."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.told: Tensor | None = None  # what is no padding in the pass to come, which is given no mask
        self.is_seq2seq = False
        self.may_pool = False  # some adapter has a router that pools over tokens
        self.may_lose = False  # some adapter has auxiliary losses
        self.routers = SharedRouters()
        self.mixed: list[str] | None = None  # an adapter for each example, of `mixed_batch`
        self.beams = 1
        self.recording = False  # routers keep what they decide
        self.lost_gradient = False  # a router was called without gradients inside a pass that has some
        self.routed: list[Routed] = []
        self.owed: Tensor | None = None  # auxiliary loss of the last pass, where the model gave no loss to add it to
        self.collected: list[Tensor] | None = None  # where such losses go instead, for who asked for them
        self._made: dict[str, Tensor | None] = {}  # computed once for all layers

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a model begins with no pass."""
        kept = {name: self.__dict__[name] for name in ("may_pool", "may_lose", "routers")}
        return {**Pass().__dict__, **kept}

    def begin(self, given: dict[str, Any], is_seq2seq: bool, recording: bool) -> None:
        """Forget the last pass. ``given`` holds shapes by the names of ``SIZED``, tensors by those of ``KEPT``."""
        if self.told is not None:
            given, self.told = {"attention_mask": self.told, **given}, None
        self.given, self.is_seq2seq, self.recording = given, is_seq2seq, recording
        self.routed, self._made, self.lost_gradient, self.owed = [], {}, False, None
        self.routers.held = {}

    def leave(self, loss: Tensor) -> None:
        """Keep an auxiliary loss for whoever computes the loss of this pass."""
        if self.collected is None:
            self.owed = loss
        else:
            self.collected.append(loss)

    def record(self, routed: Routed) -> None:
        """Keep what a router decided, where the pass ends in a loss."""
        if self.recording:
            self.lost_gradient = self.lost_gradient or not torch.is_grad_enabled()
            self.routed.append(routed)

    def check_mixed(self) -> None:
        """Refuse another number of adapters than of examples."""
        names, shape = self.mixed or [], self.shape("")
        if shape is not None and shape[0] not in (len(names), len(names) * self.beams):
            raise AdapterError(f"There are {len(names)} `adapter_names` for {shape[0]} examples. Name one for each.")

    def shape(self, layer: str) -> tuple[int, int] | None:
        """Batch and tokens of what the layer called ``layer`` reads; None where the model was not told ids."""
        side = "decoder_" if self.is_seq2seq and not self._reads_source(layer) else ""
        for name in (f"{side}input_ids", f"{side}inputs_embeds"):
            if len(self.given.get(name, ())) >= 2:
                return self.given[name][0], self.given[name][1]
        labels = self.given.get("labels") if side else None
        return tuple(labels.shape) if isinstance(labels, Tensor) and labels.dim() == 2 else None

    def real(self, layer: str, rows: torch.Size) -> Tensor | None:
        """Which of a layer's ``rows`` are no padding, bool of that shape; None where all are, or nobody knows."""
        side = "target" if self.is_seq2seq and not self._reads_source(layer) else "source"
        if side not in self._made:
            self._made[side] = self._target() if side == "target" else _mask(self.given.get("attention_mask"))
        mask = self._made[side]
        if mask is None:
            return None
        if mask.shape == rows:
            return mask
        return mask.flatten() if rows == (mask.numel(),) else None  # some models flatten their tokens

    def starts(self, rows: torch.Size) -> Tensor | None:
        """Place ``(batch, tokens)`` of the first token of each token's own sequence; None where each row is one.

        Sequences packed into one row are told by positions that begin again (``position_ids``), their borders
        (``cu_seq_lens_q``), their numbers (``seq_idx``), or a mask that numbers them.
        """
        if "starts" not in self._made:
            self._made["starts"] = self._find_starts(rows)
        starts = self._made["starts"]
        return starts if starts is not None and starts.shape == rows else None

    def block_of(self, layer: str) -> str:
        """The block of the layer called ``layer``."""
        return block_of(layer, self.is_seq2seq and "decoder" in layer.lower() and self._reads_source(layer))

    def _reads_source(self, layer: str) -> bool:
        parts = layer.lower().split(".")
        if "decoder" not in parts:
            return True
        return any(part in CROSS for part in parts) and parts[-1][0] in "kv"

    def _target(self) -> Tensor | None:
        """The decoder's own padding: as it is told, or the places at which nothing is to be predicted."""
        mask, labels = _mask(self.given.get("decoder_attention_mask")), self.given.get("labels")
        if mask is not None or not isinstance(labels, Tensor) or labels.dim() != 2:
            return mask
        return labels != IGNORED

    def _find_starts(self, rows: torch.Size) -> Tensor | None:
        begins = [made for made in self._borders(rows) if made.shape == rows]
        if not begins:
            return None
        first = torch.stack(begins).any(0)
        places = torch.arange(rows[1], device=first.device).expand(rows)
        return torch.where(first, places, 0).cummax(1).values

    def _borders(self, rows: torch.Size) -> Iterable[Tensor]:
        """Where a sequence begins, bool ``(batch, tokens)``, by each thing that says so."""
        positions, ends = self.given.get("position_ids"), self.given.get("cu_seq_lens_q")
        if isinstance(positions, Tensor) and positions.dim() == 2:
            yield _changes(positions[:, 1:] <= positions[:, :-1]).expand(rows[0], -1)
        elif isinstance(positions, Tensor) and positions.dim() == 3:  # one plane for time, height and width each
            yield _changes(positions[0, :, 1:] < positions[0, :, :-1])
        if isinstance(ends, Tensor) and rows[0] == 1:
            places = torch.arange(rows[1], device=ends.device)
            yield torch.isin(places, ends).unsqueeze(0)
        for name in ("seq_idx", "attention_mask"):
            numbers = self.given.get(name)
            if isinstance(numbers, Tensor) and numbers.dim() == 2:
                yield _changes(numbers[:, 1:] != numbers[:, :-1])


def _mask(mask: Any) -> Tensor | None:
    return mask != 0 if isinstance(mask, Tensor) and mask.dim() == 2 else None


def _changes(later: Tensor) -> Tensor:
    """``later`` ``(batch, tokens - 1)`` with a first column that is true."""
    return torch.cat((torch.ones_like(later[:, :1]), later), 1) if later.shape[1] else later.new_ones(len(later), 1)


class Watch:
    """The two hooks on a model; ``watch`` puts them there."""

    def __init__(self, model: nn.Module) -> None:
        self.names = list(inspect.signature(type(model).forward).parameters)[1:]  # of arguments without a name
        self.now = Pass()
        self.outer: list[tuple[dict[str, Any], bool]] = []  # what a pass without gradients gives back at its end

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a pass."""
        passed = {**dict(zip(self.names, args, strict=False)), **kwargs}
        given = {name: passed[name] for name in KEPT if passed.get(name) is not None}
        given |= {name: passed[name].shape for name in SIZED if isinstance(passed.get(name), Tensor)}
        self.outer.append((self.now.given, self.now.is_seq2seq))
        if getattr(model, "_is_replica", False) and (self.now.may_pool or self.now.may_lose or self.now.routers.owners):
            raise AdapterError(
                "`nn.DataParallel` runs several passes of one model at once, and a pooled or shared router or a loss "
                "of routers needs one at a time. Start one process for each device (`torchrun`), or show one device "
                "only."
            )
        if self.now.owed is not None:
            _say_lost()
        self.now.begin(given, is_seq2seq(model), model.training and torch.is_grad_enabled())
        if self.now.mixed is not None:
            self.now.check_mixed()
        if self.now.may_pool:
            _refuse_cache(model, passed)

    def end(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """After a pass, also one that failed: its auxiliary loss is added to its loss."""
        now, outer = self.now, self.outer.pop()
        recorded, routed, lost = now.recording, now.routed, now.lost_gradient
        now.recording, now.routed, now.routers.held = False, [], {}
        if not recorded:  # checkpointed layers of an earlier pass may yet be computed again
            now.begin(*outer, False)
            return output
        extra = auxiliary_loss(routed)
        if extra is None or output is None:
            return output
        if lost:
            raise AdapterError(
                "The losses of routers have no gradient under re-entrant gradient checkpointing. "
                "Use `gradient_checkpointing_kwargs={'use_reentrant': False}`."
            )
        passed = {**dict(zip(self.names, args, strict=False)), **kwargs}
        return self._add(model, output, extra, passed)

    def _add(self, model: nn.Module, output: Any, extra: Tensor, passed: dict[str, Any]) -> Any:
        labels = passed.get("labels")
        if isinstance(output, dict) and isinstance(output.get("log_probs"), Tensor):
            self.now.leave(extra)  # TRL's trainers compute their loss of these, and leave the model's
        elif isinstance(output, dict) and isinstance(output.get("loss"), Tensor):
            output["loss"] = output["loss"] + (extra * _share(model, passed)).to(output["loss"])
        elif isinstance(output, tuple) and labels is not None and output and isinstance(output[0], Tensor):
            return (output[0] + (extra * _share(model, passed)).to(output[0]), *output[1:])
        else:
            self.now.leave(extra)
        return output


def is_seq2seq(model: nn.Module) -> bool:
    """Whether a model reads one text and writes another."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def _share(model: nn.Module, passed: dict[str, Any]) -> Tensor | float:
    """This pass's share of the accumulated batch: 1, or its labels of ``num_items_in_batch``, as its loss is scaled."""
    items, labels = passed.get("num_items_in_batch"), passed.get("labels")
    if items is None or not isinstance(labels, Tensor):
        return 1.0
    shifted = passed.get("shift_labels")
    if isinstance(shifted, Tensor):
        labels = shifted
    elif LOSS_MAPPING.get(getattr(model, "loss_type", None)) is ForCausalLMLoss and not is_seq2seq(model):
        labels = labels[..., 1:]  # the first token is predicted by nothing
    count = (labels != IGNORED).sum()
    return count / (items.to(count.device) if isinstance(items, Tensor) else items)


def _say_lost() -> None:
    warnings.warn(
        "The auxiliary loss of the routers was part of no loss in the last training pass: the model gave none, or the "
        "trainer computes its own. Give the model labels, put `hydralora.training.auxiliary.AddsAuxiliaryLoss` before "
        "the trainer, or add `model.base_model.auxiliary_loss()` to the loss.",
        stacklevel=4,
    )


def _refuse_cache(model: nn.Module, passed: dict[str, Any]) -> None:
    caches = [passed[name] for name in ("cache", "past_key_values") if passed.get(name) is not None]
    if caches and pools(model) and any(cache.get_seq_length() > 0 for cache in caches):
        raise AdapterError(
            "A pooled router reads every earlier token of an example, and a key-value cache holds none of them. "
            "Generate with `use_cache=False`, or train with `router_input` x or Ax."
        )


def pools(model: nn.Module) -> bool:
    """Whether a router at work pools over tokens, which no key-value cache allows."""
    return any(getattr(module, "pools", None) is not None and module.pools() for module in model.modules())


def tell_padding(model: nn.Module, real: Tensor) -> None:
    """Tell the layers of ``model`` which tokens ``(batch, tokens)`` of the next pass are no padding.

    For packed rows, which models are given without a mask.
    """
    now = _watched(getattr(getattr(model, "base_model", None), "model", model))
    if now is not None:
        now.told = real


def _watched(model: nn.Module) -> Pass | None:
    for hook in model._forward_pre_hooks.values():
        if isinstance(getattr(hook, "__self__", None), Watch):
            return hook.__self__.now  # type: ignore[attr-defined, no-any-return]
    return None


def watch(model: nn.Module) -> Pass:
    """What the layers of ``model`` share; the hooks that fill it are put on the model once."""
    now = _watched(model)
    if now is not None:
        return now
    made = Watch(model)
    model.register_forward_pre_hook(made.begin, with_kwargs=True)
    model.register_forward_hook(made.end, with_kwargs=True, always_call=True)
    return made.now
