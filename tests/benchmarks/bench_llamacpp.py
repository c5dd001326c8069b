"""What llama.cpp computes of GGUF files beside what torch computes of the same model: 200 places in short questions.

``make bench-llamacpp ARGS="--base FOLDER"`` prints a line a file and writes ``build/llamacpp.json``: the base, a random
LoRA of mixed ranks over every linear layer, and the model with that LoRA merged in, each in f16 and q8_0.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from hydralora.bases.load import fit_threads, load_base
from hydralora.corpus.encode import encode_prompt, encode_text
from hydralora.llamacpp.check import LARGEST_GAP, PROMPTS, TEXTS, Places, Yardstick, likeliest
from hydralora.llamacpp.files import write_lora, write_model
from hydralora.results import LlamaCheck

THINGS = ("door", "tree", "boat", "lamp", "book", "shoe", "bird", "cup", "house", "river")
COLOURS = ("red", "green", "blue", "white", "black", "brown", "pink", "grey", "gold", "dark")


def places_for(tokenizer: Any) -> Places:
    """A hundred questions, each at the beginning of an answer and after its first words."""
    prompts, texts = [], []
    for thing in THINGS:
        for number, colour in enumerate(COLOURS):
            text = f"The {thing} number {number + 12} is {colour}. Which colour is the {thing}?"
            ids = encode_prompt(tokenizer, [{"role": "user", "content": text}])
            prompts += [ids, [*ids, *encode_text(tokenizer, f"The {thing} is")]]
            texts.append(text)
    return Places(prompts[:PROMPTS], texts[:TEXTS])


def random_lora(model: Any) -> Any:
    """Large enough to change what is said, with ranks 4, 8 and 16."""
    settings = {"rank_pattern": {"q_proj": 4, "down_proj": 16}, "alpha_pattern": {"q_proj": 3, "down_proj": 40}}
    tuned = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", **settings)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.01)
    return tuned


def row(check: LlamaCheck, file: Path, began: float) -> dict[str, Any]:
    """One line of the table."""
    return {
        **check.model_dump(),
        "megabytes": round(file.stat().st_size / 1e6, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }


def measure(base: str) -> dict[str, Any]:
    """The checks of an adapter and of a merged model, over and beside the base, in both kinds."""
    found: dict[str, Any] = {}
    model, tokenizer = load_base(base)
    model.eval()
    places = places_for(tokenizer)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rulers = {}
        for kind in ("f16", "q8_0"):
            write_model(model, tokenizer, folder / f"base-{kind}.gguf", kind, name="Base")
            rulers[kind] = Yardstick(model, tokenizer, places, folder / f"base-{kind}.gguf")
        tuned = random_lora(model)
        wanted = likeliest(tuned, places)
        write_lora(tuned, folder / "adapter.gguf", name="Adapter")
        for kind, ruler in rulers.items():
            began = time.perf_counter()
            check = ruler.check(wanted, folder / f"base-{kind}.gguf", folder / "adapter.gguf")
            found[f"adapter over {kind}"] = row(check, folder / "adapter.gguf", began)
        merged = tuned.merge_and_unload()
        for kind, ruler in rulers.items():
            began = time.perf_counter()
            write_model(merged, tokenizer, folder / "model.gguf", kind, name="Merged")
            found[f"merged, {kind}"] = row(ruler.check(wanted, folder / "model.gguf"), folder / "model.gguf", began)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="starter")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    threads = fit_threads(options.base)
    found = {
        "machine": f"{platform.machine()}, {threads} threads, torch {torch.__version__}",
        "base": Path(options.base).name,
        "allowed beyond the base's own, nats": LARGEST_GAP,
        **measure(options.base),
    }
    for name, value in found.items():
        print(f"{name:<36} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
