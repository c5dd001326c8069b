"""Asks llama.cpp, in a process of its own, how likely tokens are: native code that reads a file must not end the job.

Run by ``check.py`` with the path of a request and of where the answer goes. Imports nothing of ours.
"""

from __future__ import annotations

import json
import secrets
import sys
import urllib.request
from pathlib import Path
from typing import Any

LIKELIEST = 100  # tokens whose probability llama.cpp tells at each place


def main(request: Path, reply: Path) -> None:
    """Answer a request: log-probabilities of the wanted token after each prompt, and the tokens of each text."""
    import xllamacpp

    asked = json.loads(request.read_text("utf-8"))
    options = xllamacpp.CommonParams()
    options.model.path = asked["model"]
    if asked["lora"]:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = asked["lora"], 1.0
        options.lora_adapters = [adapter]
    options.n_ctx, options.n_gpu_layers, options.warmup, options.verbosity = asked["context"], 0, False, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = asked["threads"]
    key = secrets.token_urlsafe(24)
    options.api_keys = [key]  # it listens on this machine while it is asked
    server = xllamacpp.Server(options)
    found = [
        _log_probability(server, ids, wanted) for ids, wanted in zip(asked["prompts"], asked["wanted"], strict=True)
    ]
    tokens = [_tokens(server.listening_address, key, text) for text in asked["texts"]]
    reply.write_text(json.dumps({"log_probabilities": found, "tokens": tokens}), "utf-8")


def _log_probability(server: Any, ids: list[int], wanted: int) -> float | None:
    """Of the wanted token after ``ids``; None where it is not among the likeliest, or begins a character only."""
    question = {"prompt": ids, "n_predict": 1, "n_probs": LIKELIEST, "temperature": 0.0, "cache_prompt": False}
    answer = server.handle_completions(question)
    told = (answer["choices"][0]["logprobs"] or {"content": [{"top_logprobs": []}]})["content"][0]["top_logprobs"]
    return next((float(one["logprob"]) for one in told if one["id"] == wanted), None)


def _tokens(address: str, key: str, text: str) -> list[int]:
    body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{address}/tokenize", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:  # this machine, this process
        return list(json.load(answer)["tokens"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
