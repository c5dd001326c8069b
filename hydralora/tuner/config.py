"""``HydraLoraConfig``: the PEFT configuration of the routed multi-head layer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.utils.other import get_pattern_key
from peft.utils.peft_types import PeftType

from hydralora.bounds import LARGEST_SCALE
from hydralora.errors import AdapterError
from hydralora.plain import shown
from hydralora.tuner.gating import GATES
from hydralora.tuner.losses import BALANCES, LossWeights
from hydralora.tuner.register import register_when_ready

ROUTER_INPUTS = ("x", "Ax", "pooled")
ROUTER_INITS = ("kaiming", "zero", "normal")
HEAD_INITS = ("zero", "centred", "offset")
COMBINES = ("router", "mean", "sum", "hard")
DROPOUT_PLACES = ("input", "input_per_head", "heads")
ROUTER_SCOPES = ("layer", "block")
COMPENSATIONS = ("share", "cosine")
# Lowest and highest value of every number; an adapter from elsewhere may be wider than one that is trained here.
WHOLE: dict[str, tuple[float, float]] = {
    "r": (1, 65_536),
    "num_experts": (1, 1_024),
    "top_k": (0, 1_024),
    "compensation_top_k": (-1, 1_024),
    "balance_groups": (1, 1_024),
}
REAL: dict[str, tuple[float, float]] = {
    "lora_dropout": (0.0, 1.0),
    "lora_alpha": (-LARGEST_SCALE, LARGEST_SCALE),
    "balance_weight": (0.0, LARGEST_SCALE),
    "balance_delta": (0.0, 1.0),
    "task_weight": (0.0, LARGEST_SCALE),
    "z_weight": (0.0, LARGEST_SCALE),
    "temperature": (1e-3, 1e3),
    "head_init_gamma": (1e-6, LARGEST_SCALE),
    "compensation_beta": (0.0, LARGEST_SCALE),
}
MOST_BLOCKS = 100_000


@dataclass
class HydraLoraConfig(PeftConfig):
    """A frozen linear layer with one shared A, N heads and a router: HydraLoRA and its siblings.

    ``y = W0 x + s * sum_i g_i(x) B_i A x`` with ``g(x) = softmax(W_g x)`` for every token
    (Tian et al. 2024, eq. 2-4, https://arxiv.org/abs/2404.19245). ``s = lora_alpha / r``, which
    the equations leave out and the authors' code has.

    Args:
        r: Rank of A and of every head.
        num_experts: Number of heads N. One head is plain LoRA and has no router.
        lora_alpha: Numerator of the scaling.
        lora_dropout: Probability of dropping an element, see ``dropout_place``.
        use_rslora: Scale by ``lora_alpha / sqrt(r)``.
        shared_a: One A for all heads (HydraLoRA), or one A per head (LoRA-Split, LoRA-MoE).
        combine: ``router`` (softmax gates), ``mean`` (1/N each), ``sum`` (1 each) or ``hard`` (the one
            head that ``choose_heads`` names for an example; 1/N each where none is named).
        router_input: ``x``, the layer's input as in the authors' code
            (https://github.com/Clin0212/HydraLoRA/blob/afb693b/HydraLoRA/peft/tuners/lora.py#L279),
            or ``Ax``, the rank-wide product as the shape ``W_g (r, N)`` in the paper has it, or
            ``pooled``, the mean of ``A x`` over the example's tokens up to this one (causal; ours).
        gate: How the router's logits become gate weights, a key of ``GATES``; ``softmax`` is the papers', ``uniform``
            a control of equal gates without a router.
        temperature: What the logits are divided by before they become gates: the higher, the more alike.
        top_k: Heads a token may use: gates of all but the k largest logits are zero, the others' a softmax among
            them; 0 is all heads, as published (Shazeer et al. 2017, eq. 3 and 5, without noise).
        router_init: ``kaiming`` (authors' code), ``zero`` or ``normal`` (standard deviation 0.01).
        router_scope: ``layer``, a router for every adapted layer, or ``block``, one for all adapted layers of a block
            (the innermost numbered module around them), applied to what the first of them that is called reads.
        head_init: ``zero`` (delta is zero at the start), ``offset``: random heads, and what they amount to at equal
            gates is taken off, as R-LoRA does (here beside the base, saved with the adapter), or ``centred``: random
            heads minus their mean, so that equal gates give zero with nothing to take off.
        dropout_place: ``input`` (one mask on x, before A), ``input_per_head`` (an own mask on x for each head, as the
            authors' loop draws them) or ``heads`` (R-LoRA's multi-head dropout: an own mask on ``A x`` for each head).
        balance_weight: Weight of the balance loss; 0 is off and faithful.
        balance_loss: ``square``, ``N sum_i mean(g_i)^2 - 1`` (ours), ``switch``, ``N sum_i f_i P_i`` with the share
            ``f_i`` of tokens whose first choice is head i (Fedus et al. 2021, eq. 4), or ``groups``, LoRAMoE's, by
            groups of tasks and of heads (``group_loss``).
        balance_groups: Groups G of the latter: head i is in group ``i G // N``, task t in ``t mod G``, or in
            ``task_groups[t]`` where that is given.
        balance_delta: How much more a head is to do for the tasks of its own group.
        task_weight: Weight of a router's cross-entropy against the example's task, ``-mean(log g_t)``: head t is to
            take task t. Tasks are those of ``choose_heads``; examples without one count for nothing. 0 is off.
        z_weight: Weight of the router z-loss ``mean(log(sum_i exp(logit_i))^2)`` (Zoph et al. 2022, eq. 5); 0 is off.
        target_parameters: Experts that are stacked into parameters, by the ends of their names such as
            ``mlp.experts.gate_up_proj`` and ``mlp.experts.down_proj``; see ``HydraLoraExperts``.
        head_mask: Heads that take no part at inference (LoPE's poisoning expert).
        head_compensation: Who gets the gate of a masked head D: ``share``, the others in
            proportion to their own gates, or ``cosine``,
            ``g_i + beta g_D softmax_i(cos(B_i h, B_D h))``.
        compensation_top_k: Heads K among which ``cosine`` shares it, those with the largest cosine for a token; -1 is
            all, 0 none: the gate of D is lost.
        compensation_beta: Share ``beta`` of ``g_D`` that ``cosine`` gives to them.

    Raises:
        AdapterError: When a value is out of range, or zero router meets zero heads.
    """

    r: int = field(default=8, metadata={"help": "Rank of A and of every head"})
    num_experts: int = field(default=4, metadata={"help": "Number of heads"})
    lora_alpha: float = field(default=16.0, metadata={"help": "Numerator of the scaling"})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout probability"})
    use_rslora: bool = field(default=False, metadata={"help": "Scale by alpha / sqrt(r)"})
    shared_a: bool = field(default=True, metadata={"help": "One A for all heads"})
    gate: str = field(default="softmax", metadata={"help": "How logits of the router become gate weights"})
    combine: str = field(default="router", metadata={"help": "router, mean, sum or hard"})
    router_input: str = field(default="x", metadata={"help": "x, Ax or pooled"})
    router_init: str = field(default="kaiming", metadata={"help": "kaiming, zero or normal"})
    router_scope: str = field(default="layer", metadata={"help": "layer or block"})
    head_init: str = field(default="zero", metadata={"help": "zero, centred or offset"})
    head_init_gamma: float = field(default=64.0, metadata={"help": "Scale of random heads"})
    dropout_place: str = field(default="input", metadata={"help": "input, input_per_head or heads"})
    balance_weight: float = field(default=0.0, metadata={"help": "Weight of the balance loss"})
    temperature: float = field(default=1.0, metadata={"help": "What logits are divided by"})
    top_k: int = field(default=0, metadata={"help": "Heads a token may use; 0 is all"})
    balance_loss: str = field(default="square", metadata={"help": "square, switch or groups"})
    balance_delta: float = field(default=0.1, metadata={"help": "Imbalance between groups"})
    balance_groups: int = field(default=2, metadata={"help": "Groups of heads and of tasks"})
    task_groups: list[int] | None = field(default=None, metadata={"help": "Group of every task"})
    task_weight: float = field(default=0.0, metadata={"help": "Weight of the router's loss against the task"})
    z_weight: float = field(default=0.0, metadata={"help": "Weight of the router z-loss"})
    head_mask: list[int] | None = field(default=None, metadata={"help": "Heads silent at inference"})
    head_compensation: str = field(default="share", metadata={"help": "share or cosine"})
    compensation_top_k: int = field(default=-1, metadata={"help": "Heads that share a silent head's gate; -1 is all"})
    compensation_beta: float = field(default=1.0, metadata={"help": "Share of a silent head's gate that they get"})
    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Layers to adapt"})
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Layers to leave"})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Layers trained whole"})
    trainable_token_indices: list[int] | dict[str, list[int]] | None = field(
        default=None, metadata={"help": "Rows of the embeddings that are trained too"}
    )
    target_parameters: list[str] | None = field(default=None, metadata={"help": "Stacked experts to adapt"})
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "Block numbers"})
    layers_pattern: list[str] | str | None = field(default=None, metadata={"help": "Name of the blocks"})
    rank_pattern: dict[str, int] = field(default_factory=dict, metadata={"help": "Rank by layer name"})
    alpha_pattern: dict[str, float] = field(default_factory=dict, metadata={"help": "Alpha by layer name"})
    bias: str = field(default="none", metadata={"help": "none, all or hydralora_only"})
    fan_in_fan_out: bool = field(default=False, metadata={"help": "Weights stored as (in, out)"})
    init_weights: bool = field(default=True, metadata={"help": "False starts with random heads"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType.HYDRALORA  # type: ignore[attr-defined]  # added by register.py
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)  # type: ignore[assignment]
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)  # type: ignore[assignment]
        self._check_layers()
        self._check_values()

    def _check_layers(self) -> None:
        if isinstance(self.target_modules, str):
            for name in ("layers_to_transform", "layers_pattern"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` cannot be used when `target_modules` is one string.")
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("When `layers_pattern` is given, `layers_to_transform` must be given too.")

    def _check_values(self) -> None:
        self._check_numbers()
        if self.lora_dropout == 1.0:
            raise AdapterError(f"`lora_dropout` must be in [0, 1), got {self.lora_dropout}.")
        choices: dict[str, Iterable[str]] = {
            "gate": GATES,
            "combine": COMBINES,
            "router_input": ROUTER_INPUTS,
            "router_init": ROUTER_INITS,
            "head_init": HEAD_INITS,
            "router_scope": ROUTER_SCOPES,
            "dropout_place": DROPOUT_PLACES,
            "head_compensation": COMPENSATIONS,
            "balance_loss": BALANCES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise AdapterError(f"`{name}` must be one of {', '.join(allowed)}, got '{getattr(self, name)}'.")
        self._check_top_k()
        same = self.shared_a and self.router_init == "zero" and self.head_init == "zero"
        drops_apart = self.dropout_place != "input" and self.lora_dropout > 0  # which lets heads part
        if self.routes and same and self.init_weights and not drops_apart:
            raise AdapterError(
                "A zero router with zero heads never breaks their symmetry: every head gets the same "
                "gradient for ever and N heads stay one. Use `router_init` kaiming or normal, or "
                "`head_init` centred."
            )
        self._check_groups()
        wrong = [
            head for head in self.head_mask or [] if not isinstance(head, Integral) or not 0 <= head < self.num_experts
        ]
        if wrong or len(set(self.head_mask or [])) >= self.num_experts:
            raise AdapterError(
                f"`head_mask` must name some but not all of the heads 0..{self.num_experts - 1}, got {self.head_mask}."
            )

    def _check_top_k(self) -> None:
        if self.top_k > self.num_experts:
            raise AdapterError(f"`top_k` must be at most `num_experts`, {self.num_experts}, got {self.top_k}.")
        if self.top_k and self.head_mask:
            raise AdapterError(
                "`top_k` and `head_mask` do not go together: the silent head may be all that a token has chosen. "
                "Leave one of them out."
            )

    def _check_groups(self) -> None:
        if not self.losses.by_group:
            return
        if self.balance_groups > self.num_experts:
            raise AdapterError(
                f"`balance_groups` must be at most `num_experts`, {self.num_experts}, got {self.balance_groups}: every "
                "group needs a head."
            )
        for group in self.task_groups or []:
            if not isinstance(group, Integral) or not 0 <= group < self.balance_groups:
                raise AdapterError(
                    f"`task_groups` must hold numbers from 0 to {self.balance_groups - 1}, one for each task, got "
                    f"{shown(self.task_groups)}."
                )

    @property
    def most_tasks(self) -> int | None:
        """How many tasks the layer can tell apart; None where it asks for none."""
        if (self.combine == "hard" and self.num_experts > 1) or (self.routes and self.task_weight):
            return self.num_experts
        return len(self.task_groups) if self.routes and self.losses.by_group and self.task_groups else None

    @property
    def routes(self) -> bool:
        """Whether a router with weights of its own decides the gates."""
        return self.num_experts > 1 and self.combine == "router" and self.gate != "uniform"

    def _check_numbers(self) -> None:
        for name, between in (WHOLE | REAL).items():
            _check_number(name, getattr(self, name), *between, whole=name in WHOLE)
        for key, rank in self.rank_pattern.items():
            _check_number(f"rank_pattern of {shown(key)}", rank, *WHOLE["r"], whole=True)
        for key, alpha in self.alpha_pattern.items():
            _check_number(f"alpha_pattern of {shown(key)}", alpha, *REAL["lora_alpha"])
        blocks = self.layers_to_transform
        for block in blocks if isinstance(blocks, list) else [] if blocks is None else [blocks]:
            _check_number("layers_to_transform", block, 0, MOST_BLOCKS, whole=True)

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write ``adapter_config.json``, and into the model card how PEFT is made to know this adapter's type."""
        super().save_pretrained(save_directory, **kwargs)
        folder = Path(save_directory)
        if self.rank_pattern or self.alpha_pattern:
            _keep_order(folder / "adapter_config.json", self)
        tell_how_to_load(folder / "README.md", self)

    @property
    def losses(self) -> LossWeights:
        """How much each auxiliary loss of the router counts."""
        groups = tuple(self.task_groups) if self.task_groups else None
        return LossWeights(
            self.balance_weight,
            self.z_weight,
            self.balance_loss,
            self.temperature,
            self.task_weight,
            self.balance_delta,
            self.balance_groups,
            groups,
        )

    def scaling(self, name: str, rank: int) -> float:
        """``alpha / r`` (or ``alpha / sqrt(r)``) of the layer called ``name``."""
        alpha = _by_pattern(self.alpha_pattern, name, self.lora_alpha)
        return alpha / rank**0.5 if self.use_rslora else alpha / rank

    def rank(self, name: str) -> int:
        """Rank of the layer called ``name``: of the first pattern that matches its end, as PEFT's LoRA has it."""
        return int(_by_pattern(self.rank_pattern, name, self.r))


LOADING = """
## Loading this adapter

PEFT learns its type, `HYDRALORA`, from the package `hydralora`; without it PEFT stops with `KeyError: 'HYDRALORA'`.
Install it (`pip install ./hydralora` in a checkout of Hydra Studio), then import it before PEFT reads the adapter:

```python
import hydralora
from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "folder of this adapter")
```
"""

SCALE = """
Its update is scaled by `lora_alpha` over {by}: `lora_alpha` {alpha:g}, `r` {r}, scale {scale:.6g}.
"""


def tell_how_to_load(card: Path, config: HydraLoraConfig) -> None:
    """Add to a model card, once, how this adapter is loaded; PEFT itself runs no code of ours before it has failed."""
    text = card.read_text("utf-8") if card.exists() else ""
    if LOADING.strip() not in text:
        added = LOADING + SCALE.format(
            by="the root of `r`" if config.use_rslora else "`r`",
            alpha=config.lora_alpha,
            r=config.r,
            scale=config.scaling("", config.r),
        )
        card.write_text(text.rstrip("\n") + "\n" + added if text else added.lstrip("\n"), "utf-8")


def _check_number(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse what is no number, not finite, or out of bounds."""
    kinds = (Integral,) if whole else (Real,)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise AdapterError(f"`{name}` must be {what} from {low:,} to {high:,}, got {shown(value)}.")


def _by_pattern(patterns: dict[str, int] | dict[str, float], name: str, default: float) -> float:
    """The value of the first key that the end of ``name`` is matched by, as a regular expression; else the default."""
    try:
        return patterns.get(get_pattern_key(list(patterns), name), default)
    except re.error as error:
        raise AdapterError(
            f"A key of `rank_pattern` or `alpha_pattern` is no regular expression ({error}): {shown(list(patterns))}. "
            "Write names of layers, or expressions for the ends of their names."
        ) from error


def _keep_order(path: Path, config: HydraLoraConfig) -> None:
    """Write the patterns as they are ordered, since the first that matches counts; PEFT's file has them by name."""
    values = json.loads(path.read_text("utf-8"))
    values |= {name: dict(getattr(config, name)) for name in ("rank_pattern", "alpha_pattern")}
    path.write_text(json.dumps(values, indent=2), "utf-8")


register_when_ready()
