"""The settings of each method: names as PEFT has them wherever PEFT has one, each with its limits.

Nothing here imports torch. The New run page, the command line and ``docs/methods.md`` are drawn from these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from hydralora.bounds import (
    MOST_EXPERTS,
    MOST_TOKENS,
    Experts,
    Id,
    LayerName,
    Rank,
    Scale,
    TokenText,
    is_layer_name,
)
from hydralora.model_bounds import MOST_TARGETS
from hydralora.settings import Settings


def _plain(name: str) -> str:
    if not is_layer_name(name):
        raise ValueError("only letters, digits, _ and dots make the name of a layer")
    return name


# Plain names, compared with the ends of the layers' names; never a pattern.
Targets = Annotated[list[Annotated[LayerName, AfterValidator(_plain)]], Field(max_length=MOST_TARGETS)] | None


Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]
Combine = Literal["mean", "sum", "router", "hard"]
TaskSource = Literal["cluster", "label"]


class MethodOptions(Settings):
    """The settings of one method, and what the rest of the library asks of them."""

    training_only: ClassVar[tuple[str, ...]] = ()  # options that shape the training, not the layer
    renamed: ClassVar[dict[str, str]] = {
        "rank": "r",
        "alpha": "lora_alpha",
        "dropout": "lora_dropout",
        "targets": "target_modules",
    }

    @property
    def experts(self) -> int:
        """Heads beside each other; 1 where the method has only one."""
        return 1

    @property
    def combined_by(self) -> Combine | None:
        """How the heads are added up for a token; None where there is only one."""
        return None

    @property
    def task_source(self) -> TaskSource | None:
        """What counts as a task, where the method learns from tasks."""
        return None

    def layer_values(self) -> dict[str, Any]:
        """What the method's PEFT configuration is given: the options by their own names, and what follows from them."""
        return self.model_dump(exclude=set(self.training_only))


class LoraOptions(MethodOptions):
    """What every LoRA-like method shares."""

    r: Rank = Field(8, title="Rank r", description="Width of A and of each head B")
    lora_alpha: Scale = Field(16.0, title="Alpha", description="Scaling is lora_alpha / r")
    lora_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, title="Dropout", description="Share of elements dropped in training"
    )
    target_modules: Targets = Field(
        None, description="Layers to adapt, by the end of their name; empty finds all linear ones"
    )
    use_rslora: bool = Field(False, title="rsLoRA", description="Scale by lora_alpha / sqrt(r) instead")


class SavingOptions(LoraOptions):
    """A LoRA beside which some layers of the base, or rows of its embeddings, are trained too."""

    modules_to_save: Targets = Field(
        None,
        title="Layers trained whole",
        description="Layers to train as copies beside the adapter, by the end of their name, such as lm_head; saved "
        "with it",
        json_schema_extra={"placeholder": "none"},
    )
    trainable_tokens: Annotated[list[TokenText], Field(max_length=MOST_TOKENS)] | None = Field(
        None,
        title="Tokens trained",
        description="Tokens whose embeddings are trained beside the adapter, such as new ones that were added to the "
        "base; saved with it",
        json_schema_extra={"placeholder": "none"},
    )


class HeadOptions(SavingOptions):
    """A LoRA with several heads that a router adds up."""

    num_experts: Experts = Field(4, title="Experts", description="Heads B beside each other")

    @property
    def experts(self) -> int:
        return self.num_experts

    @property
    def combined_by(self) -> Combine | None:
        return "router"


class RoutingOptions(HeadOptions):
    """How the router's logits become gates, and the losses that act on it."""

    dropout_place: Literal["input", "input_per_head", "heads"] = Field(
        "input",
        title="Dropout mask",
        description="One mask of the input for all heads, one for each as the authors draw, or one of each head's A x",
    )
    router_scope: Literal["layer", "block"] = Field(
        "layer", title="Routers", description="One for each layer, or one for all adapted layers of a block"
    )
    gate: Literal["softmax", "uniform"] = Field(
        "softmax", title="Gates", description="uniform gives every head an equal share, a control without a router"
    )
    temperature: float = Field(
        1.0, ge=0.01, le=100.0, title="Gate temperature", description="The higher, the more alike the gates of a token"
    )
    top_k: int = Field(
        0, ge=0, le=MOST_EXPERTS, title="Heads per token", description="Top-k: a token uses only so many; 0 is all"
    )
    balance_weight: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="Load-balancing loss, towards equal use of the experts; 0 is off, as published",
    )
    balance_loss: Literal["square", "switch", "groups"] = Field(
        "square",
        description="Of mean gates, the Switch Transformer's of first choices, or LoRAMoE's by groups of tasks",
    )
    z_weight: float = Field(
        0.0, ge=0.0, le=10.0, title="Router z-loss", description="Keeps the router's logits small; 0 is off"
    )

    @model_validator(mode="after")
    def _check_heads_per_token(self) -> RoutingOptions:
        if self.top_k > self.num_experts:
            raise ValueError(f"`top_k` must be at most `num_experts`, {self.num_experts}, got {self.top_k}")
        return self

    @property
    def combined_by(self) -> Combine | None:
        return "mean" if self.gate == "uniform" else "router"


class TaskOptions(RoutingOptions):
    """A router that may learn from the task of each example."""

    training_only: ClassVar[tuple[str, ...]] = ("tasks",)
    balance_groups: int = Field(
        2, ge=2, le=MOST_EXPERTS, description="Groups of experts and of tasks, for the balance by groups"
    )
    balance_delta: float = Field(
        0.1, ge=0.0, le=1.0, description="How much more an expert is to do for the tasks of its own group"
    )
    task_groups: list[Annotated[int, Field(ge=0, lt=MOST_EXPERTS)]] | None = Field(
        None,
        max_length=MOST_EXPERTS,
        description="Group of every task in turn; empty deals them out",
        json_schema_extra={"placeholder": "group of each task: 0, 1, 1"},
    )
    task_weight: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        title="Supervised router",
        description="Weight of the router's cross-entropy against the example's task; 0 is off, as published",
    )
    tasks: TaskSource = Field("cluster", description="What counts as a task, for the losses that ask for it")

    @model_validator(mode="after")
    def _check_groups(self) -> TaskOptions:
        if self.balances_groups and self.balance_groups > self.num_experts:
            raise ValueError(
                f"`balance_groups` must be at most `num_experts`, {self.num_experts}, got {self.balance_groups}"
            )
        asked = self.task_weight > 0 or self.balances_groups
        if asked and (self.combined_by != "router" or self.num_experts == 1):
            raise ValueError(
                "`task_weight` and `balance_loss` groups act on a router, and there is none: `gate` is uniform, or "
                "`num_experts` is 1. Set `task_weight` to 0 and `balance_loss` to square, or take a router"
            )
        wrong = [group for group in self.task_groups or [] if group >= self.balance_groups]
        if self.balances_groups and wrong:
            raise ValueError(f"`task_groups` must hold numbers from 0 to {self.balance_groups - 1}, got {wrong[0]}")
        return self

    @property
    def balances_groups(self) -> bool:
        """Whether experts are balanced by groups of tasks."""
        return self.balance_loss == "groups" and self.balance_weight > 0

    @property
    def task_source(self) -> TaskSource | None:
        return self.tasks if self.task_weight > 0 or self.balances_groups else None


class SharedOptions(RoutingOptions):
    """The routed layer with one shared A."""

    router_input: Literal["x", "Ax", "pooled"] = Field(
        "x",
        description="What the router reads: the layer's input, the narrow A x, or A x averaged over the tokens so far",
    )
    router_init: Literal["kaiming", "normal", "zero"] = Field("kaiming", description="Starting weights of the router")
    head_init: Literal["zero", "centred", "offset"] = Field(
        "zero",
        description="Starting weights of the heads: zero, or random with their mean taken off, or their sum (offset)",
    )


class HydraOptions(SharedOptions, TaskOptions):
    """HydraLoRA."""


class SplitOptions(HeadOptions):
    """Independent small LoRAs side by side."""

    training_only = ("tasks",)
    combine: Combine = Field(
        "mean", description="How the small LoRAs are added up; hard trains one for each task; the paper does not say"
    )
    tasks: TaskSource = Field("cluster", description="What counts as a task")

    @property
    def combined_by(self) -> Combine | None:
        return self.combine

    @property
    def task_source(self) -> TaskSource | None:
        return self.tasks if self.combine == "hard" else None


class RandomHeadOptions(HeadOptions):
    """R-LoRA: heads that start apart and are dropped apart."""

    renamed: ClassVar[dict[str, str]] = {**MethodOptions.renamed, "gamma": "head_init_gamma"}
    lora_dropout: float = Field(
        0.1, ge=0.0, lt=1.0, title="Dropout", description="Share of A x dropped, anew for each head"
    )
    head_init: Literal["centred", "offset", "zero"] = Field(
        "centred",
        title="Start",
        description="centred takes their mean off the heads; offset, as published, off the layer",
    )
    router_init: Literal["zero", "normal", "kaiming"] = Field(
        "zero", description="Starting weights of the router; with zero the start is exactly the base"
    )
    head_init_gamma: Scale = Field(64.0, description="The larger, the smaller the starting weights")
    use_rslora: bool = Field(True, title="rsLoRA", description="Scale by lora_alpha / sqrt(r), as its script does")


class MixtureOptions(TaskOptions):
    """One A and one B for each expert, and a router."""


class PoisonOptions(SharedOptions):
    """LoPE: the last head takes the noise."""

    training_only = ("noise", "stage_one")
    noise: float = Field(0.05, ge=0.0, le=0.5, description="Share of words or characters, and of the embeddings' size")
    stage_one: float = Field(
        0.3, gt=0.0, lt=1.0, description="Share of the steps in which only the poisoning head learns"
    )
    compensation_top_k: int = Field(
        -1,
        ge=-1,
        le=MOST_EXPERTS,
        title="Heads that take over (K)",
        description="How many heads, the most alike first, get the silent head's gate in use; -1 is all, 0 none",
    )
    compensation_beta: float = Field(
        1.0, ge=0.0, le=10.0, title="Share taken over (beta)", description="How much of the silent head's gate they get"
    )

    @model_validator(mode="after")
    def _check_every_head_is_asked(self) -> PoisonOptions:
        if self.top_k:
            raise ValueError(f"`top_k` must be 0 here, got {self.top_k}: a token may choose the silent head alone")
        if self.balance_loss == "groups":
            raise ValueError("`balance_loss` must be square or switch here, got 'groups', which asks for tasks")
        return self

    def layer_values(self) -> dict[str, Any]:
        return {**super().layer_values(), "head_mask": [self.num_experts - 1]}


class BlockOptions(LoraOptions):
    """ThanoRA: rank shared out among tasks."""

    training_only = ("tasks", "sharpness", "orthogonality_weight", "spectrum", "directions")
    r: Rank = Field(16, ge=3, title="Rank r", description="Rank of all blocks together")
    tasks: TaskSource = Field("cluster", description="What counts as a task")
    sharpness: float = Field(
        4.0, ge=0.0, le=100.0, description="How much more rank a complex task gets; 0 is an equal share"
    )
    orthogonality_weight: float = Field(
        0.01, ge=0.0, le=100.0, description="Weight of the loss that keeps blocks apart"
    )
    spectrum: Literal["sigma squared", "sigma"] = Field(
        "sigma squared", description="What of the singular values the complexity of a task is the entropy of"
    )
    directions: Literal["inputs", "weighted"] = Field(
        "inputs",
        description="Where blocks start: along a task's inputs X, or along W0 C, the weight weighted by their "
        "covariance C",
    )

    @property
    def task_source(self) -> TaskSource | None:
        return self.tasks


class MetaOptions(LoraOptions):
    """MeTA-LoRA: first-order meta-learning over tasks."""

    training_only = (
        "tasks",
        "tasks_per_step",
        "support",
        "query",
        "split",
        "examples_per_task",
        "inner_steps",
        "inner_learning_rate",
    )
    tasks: TaskSource = Field("cluster", description="What counts as a task")
    tasks_per_step: int = Field(4, ge=2, le=64, description="Tasks drawn for one step")
    support: int = Field(4, ge=1, le=256, description="Examples a task is adapted on")
    query: int = Field(4, ge=1, le=256, description="Examples whose gradient is kept")
    split: Literal["once", "every step"] = Field(
        "once", description="Support and query share no example: drawn once for the whole run, or anew in every step"
    )
    examples_per_task: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Only so many of each task are learnt from, as the paper's 50 or 100; 0 is all",
    )
    inner_steps: int = Field(1, ge=1, le=16, description="Gradient steps on the support set")
    inner_learning_rate: float = Field(1e-2, gt=0.0, le=10.0, description="Step size of these")

    @model_validator(mode="before")
    @classmethod
    def _go_on_as_before(cls, values: Any) -> Any:
        """What an earlier version stored, which held every option, drew support and query anew in every step."""
        is_stored = isinstance(values, dict) and values.keys() >= {"r", "lora_alpha", "inner_steps", "support", "query"}
        return {"split": "every step"} | values if is_stored else values

    @model_validator(mode="after")
    def _check_two_examples(self) -> MetaOptions:
        if self.examples_per_task == 1:
            raise ValueError("`examples_per_task` must be 0 or at least 2, one for support and one for query, got 1")
        return self

    @property
    def task_source(self) -> TaskSource | None:
        return self.tasks


class HubOptions(MethodOptions):
    """LoRAHub: finished LoRAs, mixed."""

    sources: list[Id] | None = Field(
        None,
        max_length=64,
        description="Finished LoRA runs to mix, by their ids",
        json_schema_extra={"placeholder": "ids of runs: 1, 2"},
    )
    average: Literal["factors", "updates"] = Field(
        "factors", description="Average A and B apart, as the authors do, or the products B A exactly (rank n r)"
    )
    shots: int = Field(5, ge=1, le=1024, description="Examples the mixture is judged by")
    penalty: float = Field(0.05, ge=0.0, le=10.0, description="Price of large weights: this times their mean size")
    bound: float = Field(1.5, gt=0.0, le=10.0, description="Largest weight of a LoRA, either way")


class AdaOptions(MethodOptions):
    """PEFT's AdaLoRA."""

    renamed: ClassVar[dict[str, str]] = {**MethodOptions.renamed, "rank": "target_r", "initial_rank": "init_r"}
    target_r: Rank = Field(8, title="Rank r at the end", description="Average rank at the end of training")
    init_r: Rank = Field(12, title="Rank r at the start", description="Rank at the start")
    lora_alpha: Scale = Field(16.0, title="Alpha", description="Numerator of the scaling")
    lora_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, title="Dropout", description="Share of elements dropped in training"
    )
    target_modules: Targets = Field(None, description="Layers to adapt; empty finds all linear ones")


class TargetOptions(MethodOptions):
    """Only the layers to adapt."""

    target_modules: Targets = Field(None, description="Layers to adapt; empty lets PEFT choose")


class PromptOptions(MethodOptions):
    """Trained tokens in front of every prompt."""

    renamed: ClassVar[dict[str, str]] = {"virtual_tokens": "num_virtual_tokens", "encoder_width": "encoder_hidden_size"}
    num_virtual_tokens: int = Field(20, ge=1, le=512, title="Virtual tokens", description="How many tokens are trained")


class EncoderOptions(PromptOptions):
    """Trained tokens that come out of a small network."""

    encoder_hidden_size: int = Field(
        128, ge=1, le=8192, title="Encoder width", description="Hidden width of the network"
    )


class NoOptions(MethodOptions):
    """Nothing to choose."""


def sources_of(options: MethodOptions) -> list[int]:
    """The finished runs that a method mixes; empty for one that trains."""
    return list(options.sources or ()) if isinstance(options, HubOptions) else []
