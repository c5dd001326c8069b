"""The methods by name: what each computes, where it comes from, what is ours, and its settings.

Nothing here imports torch; ``adapt.py`` builds what is described. The New run page, the command
line and ``docs/methods.md`` are drawn from this table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from hydralora.config import Settings

HYDRA_PAPER = "https://arxiv.org/abs/2404.19245"
HYDRA_CODE = "https://github.com/Clin0212/HydraLoRA/blob/afb693b/HydraLoRA/peft/tuners/lora.py"

Targets = list[str] | None


class LoraOptions(Settings):
    """What every LoRA-like method shares."""

    rank: int = Field(8, ge=1, le=4096, description="Width of A and of each head B")
    alpha: float = Field(16.0, gt=0.0, description="Scaling is alpha / rank")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of elements dropped in training")
    targets: Targets = Field(None, description="Layers to adapt, by the end of their name; empty finds all linear ones")
    use_rslora: bool = Field(False, description="Scale by alpha / sqrt(rank) instead")


class HeadOptions(LoraOptions):
    """A LoRA with several heads."""

    num_experts: int = Field(4, ge=1, le=64, title="Experts", description="Heads B beside each other")


class HydraOptions(HeadOptions):
    """The routed layer with one shared A."""

    router_input: Literal["x", "Ax", "pooled"] = Field(
        "x",
        description="What the router reads: the layer's input, the narrow A x, or A x averaged over the tokens so far",
    )
    router_init: Literal["kaiming", "normal", "zero"] = Field("kaiming", description="Starting weights of the router")
    head_init: Literal["zero", "centred"] = Field("zero", description="Starting weights of the heads")
    balance_weight: float = Field(
        0.0, ge=0.0, le=10.0, description="Pull towards equal use of the experts; 0 is off, as published"
    )


TaskSource = Literal["cluster", "label"]


class SplitOptions(HeadOptions):
    """Independent small LoRAs side by side."""

    combine: Literal["mean", "sum", "router", "hard"] = Field(
        "mean", description="How the small LoRAs are added up; hard trains one for each task; the paper does not say"
    )
    tasks: TaskSource = Field("cluster", description="What counts as a task")


class RandomHeadOptions(HeadOptions):
    """R-LoRA: heads that start apart and are dropped apart."""

    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Share of A x dropped, anew for each head")
    gamma: float = Field(64.0, gt=0.0, description="The larger, the smaller the starting weights")
    use_rslora: bool = Field(True, description="Scale by alpha / sqrt(rank), as its script does")


class MixtureOptions(HeadOptions):
    """One A and one B for each expert, and a router."""

    balance_weight: float = Field(0.0, ge=0.0, le=10.0, description="Pull towards equal use of the experts; 0 is off")


class PoisonOptions(HydraOptions):
    """LoPE: the last head takes the noise."""

    noise: float = Field(0.05, ge=0.0, le=0.5, description="Share of words or characters, and of the embeddings' size")
    stage_one: float = Field(
        0.3, gt=0.0, lt=1.0, description="Share of the steps in which only the poisoning head learns"
    )


class BlockOptions(LoraOptions):
    """ThanoRA: rank shared out among tasks."""

    rank: int = Field(16, ge=3, le=4096, description="Rank of all blocks together")
    tasks: TaskSource = Field("cluster", description="What counts as a task")
    sharpness: float = Field(
        4.0, ge=0.0, le=100.0, description="How much more rank a complex task gets; 0 is an equal share"
    )
    orthogonality_weight: float = Field(
        0.01, ge=0.0, le=100.0, description="Weight of the loss that keeps blocks apart"
    )


class MetaOptions(LoraOptions):
    """MeTA-LoRA: first-order meta-learning over tasks."""

    tasks: TaskSource = Field("cluster", description="What counts as a task")
    tasks_per_step: int = Field(4, ge=2, le=64, description="Tasks drawn for one step")
    support: int = Field(4, ge=1, le=256, description="Examples a task is adapted on")
    query: int = Field(4, ge=1, le=256, description="Examples whose gradient is kept")
    inner_steps: int = Field(1, ge=1, le=16, description="Gradient steps on the support set")
    inner_learning_rate: float = Field(1e-2, gt=0.0, le=10.0, description="Step size of these")


class HubOptions(Settings):
    """LoRAHub: finished LoRAs, mixed."""

    sources: list[int] | None = Field(
        None, max_length=64, description="Finished LoRA runs to mix, by their ids",
        json_schema_extra={"placeholder": "ids of runs: 1, 2"},
    )  # fmt: skip
    average: Literal["factors", "updates"] = Field(
        "factors", description="Average A and B apart, as the authors do, or the products B A exactly (rank n r)"
    )
    shots: int = Field(5, ge=1, le=1024, description="Examples the mixture is judged by")
    penalty: float = Field(0.05, ge=0.0, le=10.0, description="Price of large weights: this times their mean size")
    bound: float = Field(1.5, gt=0.0, le=10.0, description="Largest weight of a LoRA, either way")


class AdaOptions(Settings):
    """PEFT's AdaLoRA."""

    rank: int = Field(8, ge=1, le=4096, description="Average rank at the end of training")
    initial_rank: int = Field(12, ge=1, le=4096, description="Rank at the start")
    alpha: float = Field(16.0, gt=0.0, description="Numerator of the scaling")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of elements dropped in training")
    targets: Targets = Field(None, description="Layers to adapt; empty finds all linear ones")


class TargetOptions(Settings):
    """Only the layers to adapt."""

    targets: Targets = Field(None, description="Layers to adapt; empty lets PEFT choose")


class PromptOptions(Settings):
    """Trained tokens in front of every prompt."""

    virtual_tokens: int = Field(20, ge=1, le=512, description="How many tokens are trained")


class EncoderOptions(PromptOptions):
    """Trained tokens that come out of a small network."""

    encoder_width: int = Field(128, ge=1, le=8192, description="Hidden width of the network")


class NoOptions(Settings):
    """Nothing to choose."""


@dataclass(frozen=True)
class Method:
    """One method.

    ``mergeable`` is ``exact`` where one weight equals the adapter, ``fixed`` where that is so as long as the
    heads are combined with fixed weights, else ``no``. ``needs_labels`` is true where it learns from tasks
    (clusters, or a label column), ``hard`` where it does so with ``combine="hard"``.
    """

    name: str
    title: str
    summary: str
    formula: str
    source: str
    reconstruction: str
    options: type[Settings]
    routed: bool = False
    mergeable: Literal["exact", "fixed", "no"] = "no"
    needs_labels: bool | Literal["hard"] = False
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)


_LIST = (
    Method(
        name="hydralora", title="HydraLoRA", options=HydraOptions, routed=True,
        summary="One shared A, several expert heads B, and a router that weighs the heads for every token.",
        formula="y = W0 x + (alpha / r) sum_i g_i(x) B_i A x,  g(x) = softmax(W_g x)",
        source=f"Tian et al. 2024, eq. 2-4, {HYDRA_PAPER}; {HYDRA_CODE}",
        reconstruction="The paper's W_g is r wide, its code reads the raw input; `router_input` chooses "
        "(x by default). One dropout mask for all heads; the authors' loop draws one for each.",
        presets={
            "paper equations": {"rank": 8, "num_experts": 3, "alpha": 16.0, "router_input": "Ax",
                                "router_init": "kaiming"},
            "released script": {"rank": 4, "num_experts": 4, "alpha": 32.0, "dropout": 0.05,
                                "router_input": "x", "targets": ["gate_proj", "up_proj", "down_proj"]},
            "paper %param": {"rank": 8, "num_experts": 3, "alpha": 16.0, "targets": ["q_proj", "v_proj"]},
        },
    ),
    Method(
        name="lora", title="LoRA", options=LoraOptions, mergeable="exact",
        summary="The plain adapter: one A and one B. The yardstick for all others.",
        formula="y = W0 x + (alpha / r) B A x",
        source="Hu et al. 2021, https://arxiv.org/abs/2106.09685; PEFT's LoRA",
        reconstruction="None; PEFT's own.",
        presets={
            f"paper table, rank {rank}": {"rank": rank, "targets": ["q_proj", "v_proj"]}
            for rank in (8, 16, 32)
        },
    ),
    Method(
        name="lora_split", title="LoRA-Split", options=SplitOptions, mergeable="fixed", needs_labels="hard",
        summary="The budget of one large LoRA spent on several small independent ones.",
        formula="y = W0 x + (alpha / r) sum_i c_i B_i A_i x",
        source=f"Tian et al. 2024, table 1, {HYDRA_PAPER} (no code released)",
        reconstruction="How the parts are combined is not published: c_i = 1/n (mean), 1 (sum), a router, or (hard) 1 "
        "for the head of the example's task and 0 for the others; without a task hard heads share equally. "
        "Mean and sum merge exactly.",
        presets={
            "paper 8x4": {"rank": 8, "num_experts": 4, "targets": ["q_proj", "v_proj"]},
            "paper 4x8": {"rank": 4, "num_experts": 8, "targets": ["q_proj", "v_proj"]},
            "paper 16x2": {"rank": 16, "num_experts": 2, "targets": ["q_proj", "v_proj"]},
        },
    ),
    Method(
        name="r_lora", title="R-LoRA", options=RandomHeadOptions, routed=True,
        summary="HydraLoRA whose heads start at different random places and are dropped separately.",
        formula="y = W0 x + (alpha / sqrt(r)) sum_i g_i(x) B_i drop_i(A x)",
        source="Liu et al. 2025, https://arxiv.org/abs/2502.15455; "
        "https://github.com/jinda-liu/R-LoRA/blob/fd7d442/peft/tuners/lora.py",
        reconstruction="Heads are centred (minus their mean) and the router starts at zero, so the start "
        "is exactly the base and the base weight stays untouched; the released code subtracts an "
        "offset from W0 that it never saves, and rescales heads in a loop by mistake.",
        presets={
            "released script": {"rank": 4, "num_experts": 5, "alpha": 32.0, "dropout": 0.1, "use_rslora": True,
                                "targets": ["gate_proj", "up_proj", "down_proj"]},
            "paper formula": {"rank": 8, "num_experts": 3, "gamma": 64.0, "use_rslora": True},
        },
    ),
    Method(
        name="lora_moe", title="LoRA-MoE", options=MixtureOptions, routed=True,
        summary="Every expert is a whole LoRA with its own A and B; a router weighs them for every token.",
        formula="y = W0 x + (alpha / r) sum_i g_i(x) B_i A_i x,  g(x) = softmax(W_g x)",
        source="Dou et al. 2023, https://arxiv.org/abs/2312.09979",
        reconstruction="The balance loss over groups of task types is left out; a plain one is available.",
    ),
    Method(
        name="lope", title="LoPE", options=PoisonOptions, routed=True,
        summary="HydraLoRA in which one head learns from noise first, so that the others need not; it is silent in use.",
        formula="y = W0 x + (alpha / r) sum_{i != D} w_i B_i A x,  w_i = g_i + g_D softmax_i(cos(B_i A x, B_D A x))",
        source="Ye et al. 2025, https://arxiv.org/abs/2505.23868 (no code released)",
        reconstruction="The formula that compensates the silent head was lost in print; ours adds its gate to the "
        "others by likeness. Noise on embeddings is relative to their size. The first stage's share of the "
        "steps is not published.",
        presets={
            "paper %param": {"rank": 4, "num_experts": 4, "noise": 0.05, "targets": ["q_proj", "v_proj"]},
        },
    ),
    Method(
        name="thanora", title="ThanoRA", options=BlockOptions, mergeable="exact", needs_labels=True,
        summary="One LoRA whose rank is shared out among the tasks by their complexity and kept apart by a loss.",
        formula="y = W0 x + (alpha / r) (sum_t B_t A_t + B_c A_c) x,  loss + lambda sum_{i<j} |A_i A_j^T|^2 + |B_i^T B_j|^2",
        source="Liang et al. 2025, https://arxiv.org/abs/2505.18640 (no code released)",
        reconstruction="Complexity from singular values of a layer's inputs on each task; blocks start along their "
        "leading directions with B = 0, so W0 stays untouched; blocks are normalised in the loss.",
    ),
    Method(
        name="meta_lora", title="MeTA-LoRA", options=MetaOptions, mergeable="exact", needs_labels=True,
        summary="A plain LoRA trained so that a few steps on one task also serve its other examples.",
        formula="theta_i = theta - a grad L_i(support),  theta <- theta - b mean_i grad L_i(query; theta_i)",
        source="Cheng et al. 2025, https://arxiv.org/abs/2510.11598 (no code released)",
        reconstruction="First order, mean over tasks, plain gradient descent inside; sizes and rates are ours.",
    ),
    Method(
        name="lorahub", title="LoRAHub", options=HubOptions, mergeable="exact",
        summary="Mixes LoRAs that are already trained, by a few examples and without gradients; a step is one try.",
        formula="B = sum_i w_i B_i,  A = sum_i w_i A_i,  min_w loss(few examples) + 0.05 mean_i |w_i|,  |w_i| <= 1.5",
        source="Huang et al. 2023, https://arxiv.org/abs/2307.13269; https://github.com/sail-sg/lorahub",
        reconstruction="The search is SciPy's COBYQA instead of Nevergrad's NGOpt: it keeps the bounds and draws nothing "
        "at random. The authors average A and B apart, which adds cross terms; `updates` leaves them out.",
        presets={"released code": {"average": "factors", "shots": 5, "penalty": 0.05, "bound": 1.5}},
    ),
    Method(
        name="adalora", title="AdaLoRA", options=AdaOptions, mergeable="exact",
        summary="A LoRA that moves its rank to the layers that need it.",
        formula="y = W0 x + s P diag(lambda) Q x, smallest lambda pruned",
        source="Zhang et al. 2023, https://arxiv.org/abs/2303.10512; PEFT's AdaLoRA",
        reconstruction="None; PEFT's own, with its rank allocation after every step.",
        presets={"paper table": {"rank": 8, "initial_rank": 12, "targets": ["q_proj", "v_proj"]}},
    ),
    Method(
        name="ia3", title="IA3", options=TargetOptions, mergeable="exact",
        summary="Only rescales keys, values and hidden units; very few parameters.",
        formula="y = l * (W0 x)", source="Liu et al. 2022, https://arxiv.org/abs/2205.05638; PEFT's IA3",
        reconstruction="None; PEFT's own.",
        presets={"paper table": {"targets": ["k_proj", "v_proj", "down_proj"]}},
    ),
    Method(
        name="prompt_tuning", title="Prompt tuning", options=PromptOptions,
        summary="Trains a few tokens in front of every prompt; the model stays as it is.",
        formula="y = f([P; x])", source="Lester et al. 2021, https://arxiv.org/abs/2104.08691; PEFT's prompt tuning",
        reconstruction="None; PEFT's own.",
        presets={"paper table": {"virtual_tokens": 20}},
    ),
    Method(
        name="p_tuning", title="P-tuning", options=EncoderOptions,
        summary="Prompt tuning whose tokens come out of a small network.",
        formula="y = f([E(P); x])", source="Liu et al. 2021, https://arxiv.org/abs/2103.10385; PEFT's P-tuning",
        reconstruction="None; PEFT's own.",
        presets={"paper table": {"virtual_tokens": 20, "encoder_width": 256}},
    ),
    Method(
        name="prefix_tuning", title="Prefix tuning", options=PromptOptions,
        summary="Trains keys and values in front of every layer's own.",
        formula="attention over [P_k; K], [P_v; V]",
        source="Li and Liang 2021, https://arxiv.org/abs/2101.00190; PEFT's prefix tuning",
        reconstruction="None; PEFT's own.",
        presets={"paper table": {"virtual_tokens": 20}},
    ),
    Method(
        name="full", title="Full fine-tuning", options=NoOptions, mergeable="exact",
        summary="Trains every weight of the base: the dearest yardstick, needing several times the memory.",
        formula="y = W x,  every W trained from W0",
        source=f"the full-parameter row of Tian et al. 2024, table 2, {HYDRA_PAPER}; PEFT's modules_to_save",
        reconstruction="The frozen base stays beside the trained copy, so that both can be compared. "
        "The learning rate that is chosen by itself is a tenth of an adapter's.",
    ),
)  # fmt: skip

METHODS: dict[str, Method] = {method.name: method for method in _LIST}

EXPORTS = {
    "uniform": "Plain LoRA, equal shares for all experts",
    "mean_gate": "Plain LoRA, mean gates over training examples",
    "cluster": "One plain LoRA for each cluster or label",
    "merged": "Whole model with the adapter merged in",
}


def export_ways(method: str, adapter: dict[str, Any]) -> list[str]:
    """The keys of ``EXPORTS`` that a run's method and options allow."""
    combine = adapter.get("combine", "router" if METHODS[method].routed else None)
    if combine == "router":
        return ["uniform", "mean_gate", "cluster"]
    if combine == "hard":
        return ["cluster", "uniform"]
    if combine in ("mean", "sum"):
        return ["merged", "uniform"]
    return ["merged"] if METHODS[method].mergeable == "exact" else []
