"""How much memory a run or a chat will take at most, from the shapes of the base and the settings alone.

A sum of what is known to lie in memory at the fullest moment of a step, the end of the forward pass over the longest
batch: the process itself, the weights, the adapter with its gradients and the optimizer's state, what the layers keep
for the backward pass, and the logits. What the layers keep is counted, tensor by tensor, for a decoder block with
gated feed-forward; one margin for what an allocator holds beside it is fitted (docs/memory.json, and
``tests/hydralora/test_memory.py`` holds the estimate to it).
"""

from __future__ import annotations

from dataclasses import dataclass

from hydralora.config import RunConfig
from hydralora.options import HeadOptions, LoraOptions, MetaOptions, SavingOptions
from hydralora.results.bases import BaseFacts

PROCESS = 560 * 2**20  # bytes of a process that has torch and transformers, before a model
TYPES = {"float32": 4.0, "bfloat16": 2.0, "auto": 4.0, "int8": 1.1, "nf4": 0.6}  # bytes of a weight
FLOAT = 4
STATES = {"adamw": 3, "adamw_8bit": 1.5, "adafactor": 1.2, "lion": 2}  # gradient and state, in numbers of a weight
MARGIN = 1.3  # of what a step keeps, fitted to the runs in docs/memory.json


@dataclass(frozen=True)
class Memory:
    """Bytes of each part; ``total`` is the most at once."""

    process: float
    weights: float
    adapter: float
    kept: float
    logits: float

    @property
    def total(self) -> float:
        """All parts together."""
        return self.process + self.weights + self.adapter + self.kept + self.logits


def training_memory(facts: BaseFacts, config: RunConfig, longest: int | None = None) -> Memory:
    """What a run takes.

    Args:
        longest: Tokens of the longest example, where that is known to be below ``max_length``.
    """
    train, size = config.train, TYPES[config.train.dtype]
    length = min(train.max_length, longest or train.max_length, facts.context or train.max_length)
    at_once = train.batch_size
    if isinstance(config.adapter, MetaOptions):  # a pass is the support or the query of one task
        at_once = max(config.adapter.support, config.adapter.query)
    tokens = at_once * length * (2 if train.objective == "dpo" else 1)  # both sides of a pair
    wide = max(size, 2.0)  # quantised layers compute in a wider type
    trained = trainable(facts, config)
    layers = 1 if train.gradient_checkpointing else facts.layers
    kept = tokens * layers * _block(facts, config, wide)
    kept += tokens * facts.layers * facts.width * wide * train.gradient_checkpointing
    logits = tokens * facts.vocabulary * (wide + 3 * FLOAT)  # with a float32 copy, its gradient, and one on the way
    is_full = config.method == "full"
    return Memory(
        process=PROCESS,
        weights=facts.parameters * (FLOAT if is_full else size),
        adapter=trained * FLOAT * (STATES[train.optimizer] + (0 if is_full else 1)),
        kept=MARGIN * kept,
        logits=logits,
    )


def chat_memory(facts: BaseFacts, dtype: str = "bfloat16", tokens: int = 1024) -> Memory:
    """What answering takes, with the keys and values of so many tokens."""
    size = TYPES[dtype]
    cache = 2 * facts.layers * facts.key_width * max(size, 2.0) * tokens
    return Memory(PROCESS, facts.parameters * size, 0.0, cache, facts.vocabulary * FLOAT * 2.0)


def trainable(facts: BaseFacts, config: RunConfig) -> int:
    """Numbers that are trained, the router's among them: ``rows * in + N r out + N in`` for each adapted layer."""
    if config.method == "full":
        return facts.parameters
    options = config.adapter
    if not isinstance(options, LoraOptions):
        return facts.layers * facts.width
    heads = options.num_experts if isinstance(options, HeadOptions) else 1
    routes = isinstance(options, HeadOptions) and options.combined_by == "router"
    rows = options.r * (1 if config.method in ("hydralora", "r_lora", "lope") else heads)
    count = 0
    for out, width in (shape for shapes in _adapted(facts, options).values() for shape in shapes):
        count += rows * width + heads * options.r * out + heads * width * routes
    return count + (_saved(facts, options) if isinstance(options, SavingOptions) else 0)


def _saved(facts: BaseFacts, options: SavingOptions) -> int:
    """Numbers of the layers that are trained whole (linear ones of blocks, else as large as the embeddings), and of
    the tokens that are trained: a row of the embeddings each, and one of the output where it is not the same."""
    blocks = sum(out * width for shapes in facts.linear.values() for out, width in shapes)
    tables = round((facts.parameters - blocks) / max(facts.vocabulary * facts.width, 1))
    count = len(options.trainable_tokens or []) * facts.width * min(max(tables, 1), 2)
    for name in map(_last, options.modules_to_save or []):
        count += sum(out * width for out, width in facts.linear.get(name, [[facts.vocabulary, facts.width]]))
    return count


def _last(name: str) -> str:
    """The last part of a layer's name, by which facts know it."""
    return name.rpartition(".")[2]


def _adapted(facts: BaseFacts, options: LoraOptions) -> dict[str, list[list[int]]]:
    """Shapes of the adapted layers, by their names."""
    wanted = None if options.target_modules is None else set(map(_last, options.target_modules))
    return {name: shapes for name, shapes in facts.linear.items() if wanted is None or name in wanted}


def _block(facts: BaseFacts, config: RunConfig, size: float) -> float:
    """Bytes that one block keeps of one token.

    Of the base: three of the inner width, queries and attention, keys and values twice, and two norms in float32. Of
    an adapter: the input of each group of layers that reads the same one, and the narrow ``A x``.
    """
    base = size * (3 * facts.inner + 2 * facts.width + 4 * facts.key_width) + 2 * FLOAT * facts.width
    options = config.adapter
    if not isinstance(options, LoraOptions) or config.method == "full":
        return base + size * 2 * facts.width
    widths = [shapes[0][1] for shapes in _adapted(facts, options).values()]
    is_wide = not isinstance(options, HeadOptions) and size < FLOAT  # PEFT's LoRA keeps its input once more as float32
    heads = options.num_experts if isinstance(options, HeadOptions) else 1
    narrow = (options.r + heads) * len(widths)
    return base + FLOAT * is_wide * sum(widths) + size * (sum(set(widths)) + narrow)
