"""Make the starter model: `make starter`, on a GPU where there is one, else on the CPU.

A Llama of under two million parameters with its own byte-level BPE and chat template, trained
from nothing on generated text (``starter_text``). The folder is replaced only at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import IterableDataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from data.recipes.starter_text import Document, document
from hydralora.bases.folder import STARTER
from hydralora.bases.load import choose_device
from hydralora.files import file_hash, written_aside
from hydralora.samples import GENERATORS, make_corpus

SEED = 19245
VOCABULARY = 1536
CONTEXT = 512  # positions the model is made for
WINDOW = 192  # tokens of one training row
SPECIAL = ("<|pad|>", "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SHAPE = {
    "hidden_size": 160,
    "intermediate_size": 448,
    "num_hidden_layers": 5,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "head_dim": 32,
}
TEMPLATE = (
    "<|begin|>{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def plain_text(item: Document) -> str:
    """A document as one line of text without control tokens, for the tokenizer."""
    return item if isinstance(item, str) else "\n".join(f"{q}\n{a}" for q, a in item)


def train_tokenizer(seed: int = SEED) -> PreTrainedTokenizerFast:
    """Byte-level BPE of ``VOCABULARY`` tokens.

    It is trained on the pretraining text and on the words of the sample corpora, so that their
    words are not cut into letters; the model itself is never trained on those corpora.
    """
    rng = random.Random(seed)
    texts = [plain_text(document(rng)) for _ in range(20_000)]
    for name in GENERATORS:
        texts += [f"{row['prompt']}\n{row['answer']}" for row in map(json.loads, make_corpus(name).splitlines())]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=list(SPECIAL),
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[-1],
        additional_special_tokens=list(SPECIAL[2:5]),
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(vocabulary: int, seed: int = SEED) -> LlamaForCausalLM:
    """An untrained Llama of ``SHAPE`` with tied embeddings."""
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=5,
        initializer_range=0.04,
        **SHAPE,
    )
    return LlamaForCausalLM(config)


class Rows(IterableDataset):
    """Endless rows of ``WINDOW`` ids, documents one after another; the same for the same seed."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.tokenizer, self.seed = tokenizer, seed

    def _ids(self, item: Document) -> list[int]:
        encode = self.tokenizer.encode
        begin, user, assistant, end = (
            self.tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("begin", "user", "assistant", "end")
        )
        if isinstance(item, str):
            return [begin, *encode(item), end]
        ids = [begin]
        for question, answer in item:
            ids += [user, *encode(question), assistant, *encode(answer), end]
        return ids

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        rng, rest = random.Random(self.seed), []
        while True:
            rest += self._ids(document(rng))
            while len(rest) >= WINDOW:
                row, rest = rest[:WINDOW], rest[WINDOW:]
                yield {"input_ids": row, "labels": row}


class Log(TrainerCallback):
    """One line per ``logging_steps``; ends training when the time is up."""

    def __init__(self, minutes: float, out: Path) -> None:
        self.deadline, self.out, self.began = time.time() + 60 * minutes, out, time.time()

    def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
        if logs and "loss" in logs:
            tokens = state.global_step * args.per_device_train_batch_size * WINDOW
            print(
                f"step {state.global_step:5d}  loss {logs['loss']:.3f}  {tokens / 1e6:.1f} M tokens  "
                f"{tokens / (time.time() - self.began):,.0f} tokens/s",
                flush=True,
            )

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        if time.time() > self.deadline:
            control.should_training_stop = True


def train_starter(
    steps: int, batch: int, minutes: float, work: Path
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train tokenizer and model; progress goes to standard output."""
    tokenizer = train_tokenizer()
    model = build_model(len(tokenizer))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer):,} tokens", flush=True)
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, steps // 50),
        weight_decay=0.05,
        adam_beta2=0.98,
        logging_steps=50,
        save_strategy="no",
        bf16=choose_device() == "cuda",
        seed=SEED,
        report_to="none",
        disable_tqdm=True,
        use_cpu=choose_device() == "cpu",
        dataloader_pin_memory=False,
    )

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}

    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Rows(tokenizer, SEED + 1),
        data_collator=collate,
        callbacks=[Log(minutes, work)],
    )
    trainer.remove_callback(PrinterCallback)  # it would print the same numbers again
    trainer.train()
    return model.float().eval(), tokenizer


def save_starter(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model with checksums, keeping the model card; the folder is replaced whole."""
    model.generation_config.update(max_new_tokens=128, do_sample=False)
    card = folder / "README.md"
    with written_aside(folder) as aside:
        aside.mkdir(parents=True)
        model.save_pretrained(aside, safe_serialization=True)
        tokenizer.save_pretrained(aside)
        if card.exists():
            shutil.copy(card, aside / "README.md")
        names = sorted(path.name for path in aside.iterdir() if path.name != "README.md")
        lines = [f"{file_hash(aside / name)}  {name}\n" for name in names]
        (aside / "SHA256SUMS").write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=STARTER, help="folder that gets the model")
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--batch", type=int, default=32, help="rows of 192 tokens in one step")
    parser.add_argument("--minutes", type=float, default=110, help="stop training after this long")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 is all")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    made = train_starter(options.steps, options.batch, options.minutes, options.out.with_name("starter-work"))
    save_starter(*made, options.out)
    print(f"saved to {options.out}")
