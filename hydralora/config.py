"""What one run is made of: base model, method, adapter settings and training settings.

The form on the page, the command line, the stored JSON and the documentation all read these
fields (description, bounds, unit), so a setting is described once.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from hydralora.bounds import LARGEST_SCALE, LONGEST_EXAMPLE, LONGEST_NAME, MOST_STEPS, BaseName, Seed, sentences
from hydralora.errors import UserError
from hydralora.methods import METHODS
from hydralora.options import HydraOptions, MethodOptions
from hydralora.plain import shown
from hydralora.settings import INTERNAL, Settings, unit

Options = TypeVar("Options", bound=MethodOptions)
Learn = Literal["all", "last", "former"]  # which answers of a conversation; see ``hydralora.corpus.encode``
Dtype = Literal["float32", "bfloat16", "auto", "int8", "nf4"]  # see ``hydralora.bases.load``
ReportTo = Literal["none", "tensorboard", "wandb", "trackio"]  # see ``hydralora.training.loggers``
SplitBy = Literal["prompt", "row"]  # see ``hydralora.corpus.split``
Objective = Literal["answers", "dpo"]  # see ``hydralora.training.objective``
OnOutOfMemory = Literal["ask", "retry"]
LongTexts = Literal["split", "cut"]  # see ``hydralora.corpus.encode.split``
# Settings that every stored configuration has held from the first version on, and nobody writes all by hand.
ALWAYS_STORED = {"max_steps", "accumulation", "warmup_fraction", "weight_decay", "max_grad_norm", "keep_checkpoints"}

MOST_PASSES = 4096  # added up before one step


class TrainConfig(Settings):
    """How long, how fast and on what part of a corpus one adapter is trained."""

    max_steps: int = Field(
        200, ge=1, le=MOST_STEPS, title="Steps", description="Optimizer steps to run", json_schema_extra=unit("steps")
    )
    epochs: float = Field(
        0.0,
        ge=0.0,
        le=10_000.0,
        description="Passes over the training examples, in place of a number of steps; 0 takes the steps",
    )
    batch_size: int = Field(
        16,
        ge=1,
        le=4096,
        description="Examples in one forward pass",
        json_schema_extra=unit("examples"),
    )
    accumulation: int = Field(1, ge=1, le=MOST_PASSES, description="Forward passes added up before one optimizer step")
    learning_rate: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Peak learning rate; 0 chooses 0.64 / width of the base, at most 0.004 (a tenth of it "
        "where every weight is trained)",
    )
    objective: Objective = Field(
        "answers",
        description="What is learnt from: answers, or preferences (dpo), pairs of a better and a worse answer to one "
        "prompt, which needs the package trl",
    )
    dpo_beta: float = Field(
        0.1,
        gt=0.0,
        le=100.0,
        title="Beta of DPO",
        description="With preferences: the larger, the nearer the adapter stays to the base",
    )
    optimizer: Literal["adamw", "adamw_8bit", "adafactor", "lion"] = Field(
        "adamw",
        description="Optimizer: AdamW, AdamW with 8-bit states, Adafactor or Lion; 8-bit and Lion need bitsandbytes",
    )
    b_rate: float = Field(
        1.0, ge=0.01, le=1_000.0, title="Rate of B", description="Learning rate of B over that of A (LoRA+ takes 16)"
    )
    router_rate: float = Field(
        1.0, ge=0.0, le=1_000.0, title="Rate of the router", description="Learning rate of the router over that of A"
    )
    neftune_noise: float = Field(
        0.0, ge=0.0, le=1_000.0, description="Noise on the embeddings while training (NEFTune takes 5); 0 is none"
    )
    order: Literal["shuffled", "by length"] = Field(
        "shuffled", description="Order of the examples: by lot, or batches of like length, which pads less"
    )
    packing: bool = Field(
        False,
        description="Lay the examples of a batch end to end in rows of the longest length, so that hardly anything is "
        "padding; each sees itself alone, and batch and loss stay as they are",
    )
    cluster_power: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        title="Power of cluster sizes",
        description="How often a cluster is drawn: by its size to this power. 1 draws every example alike, 0 every "
        "cluster, repeating examples of small ones",
    )
    warmup_fraction: float = Field(0.05, ge=0.0, le=1.0, description="Share of the steps before the peak is reached")
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the peak"
    )
    weight_decay: float = Field(0.0, ge=0.0, le=1.0, description="Decay of the adapter's weights")
    max_grad_norm: float = Field(
        1.0, gt=0.0, le=LARGEST_SCALE, description="Gradient-norm clipping: longer gradients are shortened"
    )
    max_length: int = Field(
        256, ge=8, le=LONGEST_EXAMPLE, description="Longest example kept whole", json_schema_extra=unit("tokens")
    )
    long_texts: LongTexts = Field(
        "split",
        title="Longer texts",
        description="Plain texts that are longer: trained on in pieces, of which nothing is lost (split), or without "
        "their end (cut), as runs of earlier versions go on. Answers to a prompt are always cut",
    )
    learn: Learn = Field(
        "all",
        title="Answers learnt",
        description="Of a conversation: every answer of the assistant (all) or the last one (last); former is how "
        "runs of earlier versions go on: the last one, with the tokenizer's end token",
    )
    held_out_fraction: float = Field(
        0.1, ge=0.0, le=0.9, description="Share of the corpus kept for measuring, never trained on"
    )
    split_by: SplitBy = Field(
        "prompt",
        title="Split",
        description="Examples with one prompt stay on one side of the split (prompt); row is how runs of earlier "
        "versions go on: a question with several answers may be on both",
    )
    selection: str = Field(
        "",
        max_length=16,
        pattern=r"^([0-9a-f]{16})?$",
        description="Name of the list of examples that are left out, which the studio writes beside the corpus; empty "
        "leaves none out",
        json_schema_extra=INTERNAL,
    )
    edits: str = Field(
        "",
        max_length=16,
        pattern=r"^([0-9a-f]{16})?$",
        description="Name of the layer of edited rows, which the studio writes beside the corpus; empty reads the rows "
        "as they were imported",
        json_schema_extra=INTERNAL,
    )
    only_cluster: int = Field(
        0, ge=0, le=10_000, description="Train and measure on the examples of this cluster only (1 is C1); 0 takes all"
    )
    eval_every: int = Field(
        50,
        ge=0,
        le=MOST_STEPS,
        description="Measure the held-out loss every so many steps; 0 is never",
        json_schema_extra=unit("steps"),
    )
    answered: int = Field(
        0,
        ge=0,
        le=256,
        title="Questions answered",
        description="So many held-out questions, always the same, are answered at each measurement, and the share of "
        "right answers is drawn; 0 answers none",
    )
    patience: int = Field(
        0,
        ge=0,
        le=1_000,
        description="End the run when the held-out loss has not fallen for so many measurements; 0 never does",
        json_schema_extra=unit("measurements"),
    )
    save_every: int = Field(
        50,
        ge=0,
        le=MOST_STEPS,
        description="Write a checkpoint every so many steps; 0 is only at the end",
        json_schema_extra=unit("steps"),
    )
    gate_every: int = Field(
        5,
        ge=0,
        le=MOST_STEPS,
        description="Record mean gate weights every so many steps; 0 is never",
        json_schema_extra=unit("steps"),
    )
    report_to: ReportTo = Field(
        "none", description="Where the numbers of each step are written besides, if it is installed"
    )
    keep_checkpoints: int = Field(8, ge=1, le=1000, description="Newest checkpoints kept; older ones are deleted")
    seed: Seed = Field(0, description="Seed of initial weights and data order")
    dtype: Dtype = Field(
        "float32",
        description="Number format of the frozen base model; auto is bfloat16 on a GPU that has it and float32 "
        "elsewhere; int8 and nf4 (4 bits) need bitsandbytes",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations (gradient checkpointing): less memory, more time"
    )
    on_out_of_memory: OnOutOfMemory = Field(
        "ask",
        title="Out of memory",
        description="When the studio's run takes more memory than there is: it fails, and a button goes on in smaller "
        "parts (ask), or it goes on by itself (retry), with half the examples in one forward pass and twice the "
        "passes, from its last checkpoint",
    )
    batch_asked: int = Field(
        0,
        ge=0,
        le=4096,
        description="The batch size that a run was started with, where the studio has made it smaller since; else 0",
        json_schema_extra=INTERNAL,
    )

    def in_smaller_parts(self) -> TrainConfig | None:
        """The same optimizer step of ``batch_size * accumulation`` examples with at most half of them in one forward
        pass; None where one pass holds one example, or so many passes are not allowed."""
        step, most = self.batch_size * self.accumulation, self.batch_size // 2
        batch = next((size for size in range(most, 0, -1) if step % size == 0), None)
        if batch is None or step // batch > MOST_PASSES:
            return None
        asked = self.batch_asked or self.batch_size
        return self.model_copy(update={"batch_size": batch, "accumulation": step // batch, "batch_asked": asked})

    @model_validator(mode="before")
    @classmethod
    def _go_on_as_before(cls, values: Any) -> Any:
        """What an earlier version stored learns and splits as it did, so that its run can be resumed."""
        if isinstance(values, dict) and values.keys() >= ALWAYS_STORED:
            return {"learn": "former", "split_by": "row", "long_texts": "cut"} | values
        return values


class RunConfig(Settings):
    """Everything that decides the outcome of a run, apart from the corpus itself.

    ``adapter`` holds the options of ``method``, an object of ``METHODS[method].options``; given as a dict it is
    checked, and stored it has every default written out.
    """

    base: BaseName = Field("starter", min_length=1, description="Base model: starter, a folder, or a hub id")
    method: str = Field("hydralora", max_length=LONGEST_NAME, description="Name of the method, a key of `METHODS`")
    adapter: SerializeAsAny[MethodOptions] = Field(default_factory=HydraOptions, description="Options of the method")
    train: TrainConfig = Field(default_factory=TrainConfig)

    @model_validator(mode="before")
    @classmethod
    def _fill_adapter(cls, values: Any) -> Any:
        values = dict(values)
        name = values.get("method", "hydralora")
        if not isinstance(name, str) or name not in METHODS:
            raise ValueError(f"Method {shown(name)} is unknown. Choose one of: {', '.join(METHODS)}.")
        given, options = values.get("adapter", {}), METHODS[name].options
        if type(given) is not options:
            if not isinstance(given, dict):
                raise ValueError(f"`adapter` must hold settings by name, got {shown(given)}.")
            values["adapter"] = options.model_validate(given)
        return values

    def in_smaller_parts(self) -> RunConfig | None:
        """The same run with each step read in smaller parts; None where there are none."""
        train = None if METHODS[self.method].has_own_batch else self.train.in_smaller_parts()
        return None if train is None else self.model_copy(update={"train": train})

    def options_as(self, kind: type[Options]) -> Options:
        """The method's options as the class they have.

        Raises:
            TypeError: When the method of this run has other options.
        """
        if not isinstance(self.adapter, kind):
            raise TypeError(f"`{self.method}` has {type(self.adapter).__name__}, not {kind.__name__}.")
        return self.adapter


def parse_config(values: dict[str, Any]) -> RunConfig:
    """Check a configuration and fill in its defaults.

    Raises:
        UserError: With one sentence per wrong setting: its name, the rule and the value.
    """
    try:
        return RunConfig(**values)
    except ValidationError as error:
        raise UserError(sentences(error.errors())) from error
