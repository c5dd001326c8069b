"""What ``adapter_config.json`` of a stranger may say, checked before PEFT reads it.

PEFT runs several of its fields as regular expressions over the names of all layers. Here a name is a plain name: what
is none is refused, or left out where the names in the weights say the same (``LEFT_OUT``, ``target_modules``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from hydralora.bases.schema import Text, Word, read_checked
from hydralora.bounds import is_layer_name
from hydralora.model_bounds import (
    MOST_ALPHA,
    MOST_HEADS,
    MOST_HEADS_OF_ADAPTER,
    MOST_LAYERS,
    MOST_NAME,
    MOST_NAMES,
    MOST_NUMBER,
    MOST_PATTERNS,
    MOST_RANK,
    MOST_VIRTUAL_TOKENS,
    MOST_WIDTH,
)

MOST_ADAPTER_CONFIG = 4 * 2**20  # bytes; AdaLoRA lists which ranks of which layer are left
# Which layers are adapted is told by the weights; these could only take some away, by patterns.
LEFT_OUT = ("exclude_modules", "layers_to_transform", "layers_pattern", "runtime_config", "eva_config")
# A tokenizer that would be fetched to start prompts, which are here already.
TOKENIZER = ("tokenizer_name_or_path", "tokenizer_kwargs", "prompt_tuning_init_text", "prompt_tuning_init")
NAMES = ("modules_to_save", "feedforward_modules", "target_parameters")

Rank = Annotated[int, Field(ge=1, le=MOST_RANK)]
Alpha = Annotated[float, Field(ge=0.0, le=MOST_ALPHA)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0, le=MOST_NUMBER)]
Width = Annotated[int, Field(ge=1, le=MOST_WIDTH)]
Name = Annotated[str, StringConstraints(max_length=MOST_NAME)]
Names = Annotated[list[Name], Field(max_length=MOST_NAMES)]
Ids = Annotated[list[Count], Field(max_length=MOST_NAMES)]


class AdapterSchema(BaseModel):
    """``adapter_config.json`` of every kind of adapter that is taken in, PEFT's, ours and the authors'."""

    model_config = ConfigDict(extra="allow", strict=True)
    peft_type: Word | None = None
    task_type: Word | None = None
    base_model_name_or_path: Text | None = None
    revision: Text | None = None
    # LoRA and its kind
    r: Rank | None = None
    target_r: Rank | None = None
    init_r: Rank | None = None
    lora_alpha: Alpha | None = None
    lora_dropout: Share | None = None
    target_modules: str | Names | None = None
    rank_pattern: dict[Name, Rank | list[bool]] | None = Field(None, max_length=MOST_PATTERNS)
    alpha_pattern: dict[Name, Alpha] | None = Field(None, max_length=MOST_PATTERNS)
    use_rslora: bool | None = None
    use_dora: bool | None = None
    fan_in_fan_out: bool | None = None
    lora_bias: bool | None = None
    total_step: Count | None = None
    tinit: Count | None = None
    tfinal: Count | None = None
    deltaT: Count | None = None
    beta1: Share | None = None
    beta2: Share | None = None
    orth_reg_weight: Alpha | None = None
    trainable_token_indices: Ids | dict[Name, Ids] | None = None
    qalora_group_size: Width | None = None
    alora_invocation_tokens: Ids | None = None
    # Names of layers
    modules_to_save: Names | None = None
    feedforward_modules: Name | Names | None = None
    target_parameters: Names | None = None
    # Several heads: ours, and the authors' name for their number
    num_experts: int | None = Field(None, ge=1, le=MOST_HEADS_OF_ADAPTER)
    lora_nums: int | None = Field(None, ge=1, le=MOST_HEADS_OF_ADAPTER)
    head_mask: list[Count] | None = Field(None, max_length=MOST_HEADS_OF_ADAPTER)
    compensation_top_k: int | None = Field(None, ge=-1, le=MOST_HEADS_OF_ADAPTER)
    compensation_beta: Alpha | None = None
    head_init_gamma: Alpha | None = None
    balance_weight: Alpha | None = None
    balance_delta: Share | None = None
    balance_groups: Count | None = None
    task_groups: list[Count] | None = Field(None, max_length=MOST_NAMES)
    task_weight: Alpha | None = None
    z_weight: Alpha | None = None
    temperature: Alpha | None = None
    top_k: Count | None = None
    # Trained prompts
    num_virtual_tokens: int | None = Field(None, ge=1, le=MOST_VIRTUAL_TOKENS)
    token_dim: Width | None = None
    num_transformer_submodules: int | None = Field(None, ge=1, le=8)
    num_attention_heads: int | None = Field(None, ge=1, le=MOST_HEADS)
    num_layers: int | None = Field(None, ge=1, le=MOST_LAYERS)
    encoder_hidden_size: Width | None = None
    encoder_num_layers: int | None = Field(None, ge=1, le=64)
    encoder_dropout: Share | None = None

    @model_validator(mode="after")
    def _check_names(self) -> AdapterSchema:
        for field in NAMES:
            given = getattr(self, field)
            check_names(field, [given] if isinstance(given, str) else given or [])
        for field in ("rank_pattern", "alpha_pattern", "trainable_token_indices"):
            check_names(field, list(given) if isinstance(given := getattr(self, field), dict) else [])
        return self


def check_names(field: str, names: list[Any]) -> None:
    """Refuse what is no plain name.

    Raises:
        ValueError: Naming the field and the first that is none.
    """
    odd = next((name for name in names if not is_layer_name(name)), None)
    if odd is not None:
        raise ValueError(f"`{field}` holds {odd[:80]!r}, which names no layer. Write whole names of layers there")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in an ``adapter_config.json``, within bounds and without patterns.

    Raises:
        ValueError: With what is wrong, to stand behind the file's name.
    """
    values = read_checked(path, AdapterSchema, MOST_ADAPTER_CONFIG)
    kept = {name: value for name, value in values.items() if name not in (*LEFT_OUT, *TOKENIZER)}
    if not _are_names(kept.get("target_modules")):
        del kept["target_modules"]
    return kept


def _are_names(targets: Any) -> bool:
    return targets is None or all(is_layer_name(name) for name in ([targets] if isinstance(targets, str) else targets))
