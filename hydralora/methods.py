"""The methods by name: what each computes, where it comes from, and what is ours.

Nothing here imports torch; ``adapters/build.py`` builds what is described. The New run page, the command
line and ``docs/methods.md`` are drawn from this table; the settings of each are in ``options.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hydralora.options import (
    AdaOptions,
    BlockOptions,
    EncoderOptions,
    HubOptions,
    HydraOptions,
    MetaOptions,
    MethodOptions,
    MixtureOptions,
    NoOptions,
    PoisonOptions,
    PromptOptions,
    RandomHeadOptions,
    SavingOptions,
    SplitOptions,
    TargetOptions,
)

HYDRA_PAPER = "https://arxiv.org/abs/2404.19245"
HYDRA_CODE = "https://github.com/Clin0212/HydraLoRA/blob/afb693b/HydraLoRA/peft/tuners/lora.py"

Tuner = Literal["HYDRALORA", "LORA", "ADALORA", "IA3", "PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "COMPOSED", "FULL"]


@dataclass(frozen=True)
class Method:
    """One method.

    ``tuner`` names the layer it is built from: a PEFT type, ``COMPOSED`` of finished LoRAs, or ``FULL`` copies of
    the weights; ``fixed`` are values of its configuration that nobody chooses. ``mixin`` is the dotted class that
    is put before a Trainer for its training, where that differs from the plain one.

    ``mergeable`` is ``exact`` where one weight equals the adapter, ``fixed`` where that is so as long as the
    heads are combined with fixed weights, else ``no``. ``needs_labels`` is true where it learns from tasks
    (clusters, or a label column), ``hard`` where it does so with ``combine="hard"``. ``learns_pairs`` is true where
    it can learn from preferences: its layers can be switched off, which gives the reference. ``has_own_batch`` is true
    where a step is made of something else than ``batch_size`` examples, so that it cannot be read in smaller parts.
    """

    name: str
    title: str
    summary: str
    formula: str
    source: str
    reconstruction: str
    options: type[MethodOptions]
    tuner: Tuner
    fixed: dict[str, Any] = field(default_factory=dict)
    mixin: str = ""
    routed: bool = False
    mergeable: Literal["exact", "fixed", "no"] = "no"
    needs_labels: bool | Literal["hard"] = False
    learns_pairs: bool = False
    has_own_batch: bool = False
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)


_LIST = (
    Method(
        name="hydralora",
        learns_pairs=True,
        title="HydraLoRA",
        options=HydraOptions,
        tuner="HYDRALORA",
        mixin="hydralora.training.guided.GuidedByTask",
        routed=True,
        summary="One shared A, several expert heads B, and a router that scores the heads for every token.",
        formula="y = W0 x + (alpha / r) sum_i g_i(x) B_i A x,  g(x) = softmax(W_g x)",
        source=f"Tian et al. 2024, eq. 2-4, {HYDRA_PAPER}; {HYDRA_CODE}",
        reconstruction="The paper's W_g is r wide, its code reads the raw input; `router_input` chooses "
        "(x by default). The equations have no scale, so their preset takes alpha = r. One dropout mask for all heads; "
        "the authors' loop draws one for each, which `dropout_place` input_per_head does, as their script's preset.",
        presets={
            "paper equations": {
                "r": 8,
                "num_experts": 3,
                "lora_alpha": 8.0,
                "router_input": "Ax",
                "router_init": "kaiming",
            },
            "released script": {
                "r": 4,
                "num_experts": 4,
                "lora_alpha": 32.0,
                "lora_dropout": 0.05,
                "dropout_place": "input_per_head",
                "router_input": "x",
                "target_modules": ["gate_proj", "up_proj", "down_proj"],
            },
            "paper %param": {"r": 8, "num_experts": 3, "lora_alpha": 16.0, "target_modules": ["q_proj", "v_proj"]},
        },
    ),
    Method(
        name="lora",
        learns_pairs=True,
        title="LoRA",
        options=SavingOptions,
        tuner="LORA",
        mergeable="exact",
        summary="The plain adapter: one A and one B. The yardstick for all others.",
        formula="y = W0 x + (alpha / r) B A x",
        source="Hu et al. 2021, https://arxiv.org/abs/2106.09685; PEFT's LoRA",
        reconstruction="None; PEFT's own.",
        presets={
            f"paper table, rank {rank}": {"r": rank, "target_modules": ["q_proj", "v_proj"]} for rank in (8, 16, 32)
        },
    ),
    Method(
        name="lora_split",
        learns_pairs=True,
        title="LoRA-Split",
        options=SplitOptions,
        tuner="HYDRALORA",
        fixed={"shared_a": False},
        mixin="hydralora.training.split.SplitsByTask",
        mergeable="fixed",
        needs_labels="hard",
        summary="The budget of one large LoRA spent on several small independent ones.",
        formula="y = W0 x + (alpha / r) sum_i c_i B_i A_i x",
        source=f"Tian et al. 2024, table 1, {HYDRA_PAPER} (no code released)",
        reconstruction="How the parts are combined is not published: c_i = 1/n (mean), 1 (sum), a router, or (hard) 1 "
        "for the head of the example's task and 0 for the others; without a task hard heads share equally. "
        "Mean and sum merge exactly.",
        presets={
            "paper 8x4": {"r": 8, "num_experts": 4, "target_modules": ["q_proj", "v_proj"]},
            "paper 4x8": {"r": 4, "num_experts": 8, "target_modules": ["q_proj", "v_proj"]},
            "paper 16x2": {"r": 16, "num_experts": 2, "target_modules": ["q_proj", "v_proj"]},
        },
    ),
    Method(
        name="r_lora",
        learns_pairs=True,
        title="R-LoRA",
        options=RandomHeadOptions,
        tuner="HYDRALORA",
        fixed={"dropout_place": "heads"},
        routed=True,
        summary="HydraLoRA whose heads start at different random places and are dropped separately.",
        formula="y = W0 x + (alpha / sqrt(r)) sum_i g_i(x) B_i drop_i(A x)",
        source="Liu et al. 2025, https://arxiv.org/abs/2502.15455; "
        "https://github.com/jinda-liu/R-LoRA/blob/fd7d442/peft/tuners/lora.py",
        reconstruction="By default heads are centred (minus their mean) and the router starts at zero, so the start "
        "is exactly the base. Published is an offset, s mean_i(B_i) A taken off W0: `head_init` offset keeps it in the "
        "adapter and its file, so that W0 stays untouched. The released code never saves it, and rescales heads in a "
        "loop by mistake; its router starts at kaiming, where the start is not exactly the base.",
        presets={
            "released script": {
                "r": 4,
                "num_experts": 5,
                "lora_alpha": 32.0,
                "lora_dropout": 0.1,
                "use_rslora": True,
                "target_modules": ["gate_proj", "up_proj", "down_proj"],
            },
            "paper formula": {
                "r": 8,
                "num_experts": 3,
                "head_init": "offset",
                "head_init_gamma": 64.0,
                "use_rslora": True,
            },
        },
    ),
    Method(
        name="lora_moe",
        learns_pairs=True,
        title="LoRA-MoE",
        options=MixtureOptions,
        tuner="HYDRALORA",
        fixed={"shared_a": False},
        mixin="hydralora.training.guided.GuidedByTask",
        routed=True,
        summary="Every expert is a whole LoRA with its own A and B; a router scores them for every token.",
        formula="y = W0 x + (alpha / r) sum_i g_i(x) B_i A_i x,  g(x) = softmax(W_g x)",
        source="Dou et al. 2023, https://arxiv.org/abs/2312.09979",
        reconstruction="Their localized balance over groups of task types is `balance_loss` groups, off by default; "
        "which tasks and experts are a group is dealt out in turn where `task_groups` does not say.",
        presets={
            "released script": {
                "r": 4,
                "num_experts": 8,
                "lora_alpha": 32.0,
                "lora_dropout": 0.05,
                "dropout_place": "input_per_head",
                "target_modules": ["gate_proj", "down_proj", "up_proj"],
            },
        },
    ),
    Method(
        name="lope",
        title="LoPE",
        options=PoisonOptions,
        tuner="HYDRALORA",
        fixed={"head_compensation": "cosine"},
        mixin="hydralora.training.lope.PoisonsFirst",
        routed=True,
        summary="HydraLoRA in which one head learns from noise first, so that the others need not; it is "
        "silent in use.",
        formula="y = W0 x + (alpha / r) sum_{i != D} w_i B_i A x,  "
        "w_i = g_i + beta g_D softmax_{i in K}(cos(B_i A x, B_D A x))",
        source="Ye et al. 2025, https://arxiv.org/abs/2505.23868 (no code released)",
        reconstruction="The formula that compensates the silent head was lost in print; ours adds `compensation_beta` "
        "of its gate to the K heads most like it, by similarity (`compensation_top_k`; -1 is all, 0 is plain masking, "
        "the paper's worst). Noise on embeddings is relative to their size. The first stage's share of the "
        "steps is not published.",
        presets={
            "paper %param": {"r": 4, "num_experts": 4, "noise": 0.05, "target_modules": ["q_proj", "v_proj"]},
        },
    ),
    Method(
        name="thanora",
        title="ThanoRA",
        options=BlockOptions,
        tuner="LORA",
        mixin="hydralora.training.thanora.SharesRank",
        mergeable="exact",
        needs_labels=True,
        summary="One LoRA whose rank is shared out among the tasks by their complexity and kept apart by a loss.",
        formula="y = W0 x + (alpha / r) (sum_t B_t A_t + B_c A_c) x,  loss + lambda sum_{i<j} |A_i "
        "A_j^T|^2 + |B_i^T B_j|^2",
        source="Liang et al. 2025, https://arxiv.org/abs/2505.18640 (no code released)",
        reconstruction="Complexity is the entropy of squared singular values (`spectrum`: or of the values themselves) "
        "of a layer's inputs on each task, or of W0 C, the weight weighted by their covariance (`directions`); blocks "
        "start along the leading directions with B = 0, so W0 stays untouched; blocks are normalised in the loss.",
    ),
    Method(
        name="meta_lora",
        title="MeTA-LoRA",
        options=MetaOptions,
        tuner="LORA",
        mixin="hydralora.training.meta_lora.MetaLearns",
        has_own_batch=True,
        mergeable="exact",
        needs_labels=True,
        summary="A plain LoRA trained so that a few steps on one task also serve its other examples.",
        formula="theta_i = theta - a grad L_i(support),  theta <- theta - b mean_i grad L_i(query; theta_i)",
        source="Cheng et al. 2025, https://arxiv.org/abs/2510.11598 (no code released)",
        reconstruction="First order, mean over tasks, plain gradient descent inside; sizes and rates are ours. Support "
        "and query never share an example, for the whole run or in each step (`split`); second sources say that the "
        "paper learns from 50 or 100 examples of each task (`examples_per_task`).",
        presets={
            "50 examples per task": {"examples_per_task": 50, "split": "once"},
            "100 examples per task": {"examples_per_task": 100, "split": "once"},
        },
    ),
    Method(
        name="lorahub",
        title="LoRAHub",
        options=HubOptions,
        tuner="COMPOSED",
        mixin="hydralora.training.lorahub.MixesLoras",
        mergeable="exact",
        summary="Mixes LoRAs that are already trained, by a few examples and without gradients; a step is one try.",
        formula="B = sum_i w_i B_i,  A = sum_i w_i A_i,  min_w loss(few examples) + 0.05 mean_i |w_i|,  |w_i| <= 1.5",
        source="Huang et al. 2023, https://arxiv.org/abs/2307.13269; https://github.com/sail-sg/lorahub",
        reconstruction="The search is SciPy's COBYLA, which Nevergrad's NGOpt, the authors' search, takes too at 20 "
        "sources and up to 1,000 tries; ours draws nothing at random. The authors average A and B apart, which adds "
        "cross terms; `updates` leaves them out.",
        presets={"released code": {"average": "factors", "shots": 5, "penalty": 0.05, "bound": 1.5}},
    ),
    Method(
        name="adalora",
        title="AdaLoRA",
        options=AdaOptions,
        tuner="ADALORA",
        mergeable="exact",
        summary="A LoRA that moves its rank to the layers that need it.",
        formula="y = W0 x + s P diag(lambda) Q x, smallest lambda pruned",
        source="Zhang et al. 2023, https://arxiv.org/abs/2303.10512; PEFT's AdaLoRA",
        reconstruction="None; PEFT's own, with its rank allocation after every step.",
        presets={"paper table": {"target_r": 8, "init_r": 12, "target_modules": ["q_proj", "v_proj"]}},
    ),
    Method(
        name="ia3",
        learns_pairs=True,
        title="IA3",
        options=TargetOptions,
        tuner="IA3",
        mergeable="exact",
        summary="Only rescales keys, values and hidden units; very few parameters.",
        formula="y = l * (W0 x)",
        source="Liu et al. 2022, https://arxiv.org/abs/2205.05638; PEFT's IA3",
        reconstruction="None; PEFT's own.",
        presets={"paper table": {"target_modules": ["k_proj", "v_proj", "down_proj"]}},
    ),
    Method(
        name="prompt_tuning",
        title="Prompt tuning",
        options=PromptOptions,
        tuner="PROMPT_TUNING",
        summary="Trains a few tokens in front of every prompt; the model stays as it is.",
        formula="y = f([P; x])",
        source="Lester et al. 2021, https://arxiv.org/abs/2104.08691; PEFT's prompt tuning",
        reconstruction="None; PEFT's own.",
        presets={"paper table": {"num_virtual_tokens": 20}},
    ),
    Method(
        name="p_tuning",
        title="P-tuning",
        options=EncoderOptions,
        tuner="P_TUNING",
        summary="Prompt tuning whose tokens come out of a small network.",
        formula="y = f([E(P); x])",
        source="Liu et al. 2021, https://arxiv.org/abs/2103.10385; PEFT's P-tuning",
        reconstruction="None; PEFT's own.",
        presets={"paper table": {"num_virtual_tokens": 20, "encoder_hidden_size": 256}},
    ),
    Method(
        name="prefix_tuning",
        title="Prefix tuning",
        options=PromptOptions,
        tuner="PREFIX_TUNING",
        summary="Trains keys and values in front of every layer's own.",
        formula="attention over [P_k; K], [P_v; V]",
        source="Li and Liang 2021, https://arxiv.org/abs/2101.00190; PEFT's prefix tuning",
        reconstruction="None; PEFT's own.",
        presets={"paper table": {"num_virtual_tokens": 20}},
    ),
    Method(
        name="full",
        title="Full fine-tuning",
        options=NoOptions,
        tuner="FULL",
        mergeable="exact",
        summary="Trains every weight of the base: the dearest yardstick, needing several times the memory.",
        formula="y = W x,  every W trained from W0",
        source=f"the full-parameter row of Tian et al. 2024, table 2, {HYDRA_PAPER}; PEFT's modules_to_save",
        reconstruction="The frozen base stays beside the trained copy, so that both can be compared. "
        "The learning rate that is chosen by itself is a tenth of an adapter's.",
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _LIST}

EXPORTS = {
    "uniform": "Plain LoRA, equal shares for all experts",
    "mean_gate": "Plain LoRA, mean gates over training examples",
    "cluster": "One plain LoRA for each cluster or label",
    "merged": "Whole model with the adapter merged in",
    "merged_mean": "Whole model with the mean-gate LoRA merged in",
    "own": "The run's own plain LoRA",
}
FORMS = {
    "safetensors": "safetensors, for PEFT and transformers",
    "gguf": "GGUF in f16, for llama.cpp and Ollama",
    "gguf-q8_0": "GGUF in q8_0, half as large",
}


def export_ways(method: str, options: MethodOptions) -> list[str]:
    """The keys of ``EXPORTS`` that a run's method and options allow."""
    if options.combined_by == "router":
        return ["uniform", "mean_gate", "cluster", "merged_mean"]
    if options.combined_by == "hard":
        return ["cluster", "uniform"]
    if options.combined_by in ("mean", "sum"):
        return ["merged", "uniform"]
    if METHODS[method].mergeable != "exact":
        return []
    return ["merged", "own"] if METHODS[method].tuner == "LORA" else ["merged"]
