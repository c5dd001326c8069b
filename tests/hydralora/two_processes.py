"""Run by ``torch.distributed.run``: train in two processes, stop, resume, and write down what came out.

Each process writes ``rank<n>.json`` with a hash of its adapter after each of the runs, and the
losses it saw. Arguments: base folder, corpus folder, folder for the results.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from hydralora.adapters.build import add_adapter
from hydralora.bases.load import load_base
from hydralora.corpus.batches import Collator
from hydralora.corpus.encode import encode_example
from hydralora.corpus.folder import Corpus
from hydralora.training.trainer import AdapterTrainer

STEPS, STOP = 6, 3


class StopAt(TrainerCallback):
    """Asks for a checkpoint and the end after one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        if state.global_step == self.step:
            control.should_training_stop = control.should_save = True


def make_trainer(base: str, rows: list[Any], folder: Path, balance: float, *callbacks: Any) -> AdapterTrainer:
    model, tokenizer = load_base(base, device="cpu")
    options = {"r": 4, "num_experts": 3, "lora_dropout": 0.1, "balance_weight": balance}
    adapted = add_adapter(model, "hydralora", options, seed=0, steps=STEPS)
    adapted.config.use_cache = False
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        seed=0,
        data_seed=0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
        logging_steps=1,
        dataloader_pin_memory=False,
    )
    trainer = AdapterTrainer(
        model=adapted,
        args=arguments,
        train_dataset=rows,
        data_collator=Collator(tokenizer.pad_token_id),
        callbacks=[*callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def outcome(trainer: AdapterTrainer) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, weight in trainer.model.named_parameters():
        if weight.requires_grad:
            digest.update(name.encode() + weight.detach().numpy().tobytes())
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"weights": digest.hexdigest(), "losses": losses, "processes": trainer.args.world_size}


def main(base: str, corpus: str, folder: Path) -> None:
    torch.set_num_threads(1)
    tokenizer = load_base(base, device="cpu")[1]
    rows = [row for e in Corpus(Path(corpus)) if (row := encode_example(tokenizer, e, 64)) is not None]
    found = {}
    for name, balance in (("whole", 1.0), ("without balance", 0.0)):
        trainer = make_trainer(base, rows, folder / name, balance)
        trainer.train()
        found[name] = outcome(trainer)
    make_trainer(base, rows, folder / "parts", 1.0, StopAt(STOP)).train()
    set_seed(999)  # what was drawn before must not matter
    resumed = make_trainer(base, rows, folder / "parts", 1.0)
    resumed.train(resume_from_checkpoint=str(folder / "parts" / f"checkpoint-{STOP}"))
    found["resumed"] = outcome(resumed)
    (folder / f"rank{resumed.args.process_index}.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
