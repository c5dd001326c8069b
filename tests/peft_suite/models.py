"""Tiny random models under the names by which PEFT's tests ask the hub for theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers

TOKENS = {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA = {
    **TOKENS,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT2 = {**TOKENS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
OPT = {
    **TOKENS,
    "hidden_size": 16,
    "word_embed_proj_dim": 16,
    "ffn_dim": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
# What the end of a name says of the architecture.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "OPTForCausalLM": ("OPT", OPT),
    "GPT2LMHeadModel": ("GPT2", GPT2),
    "random-gpt2": ("GPT2", GPT2),
    "GPTJForCausalLM": ("GPTJ", {**GPT2, "rotary_dim": 4}),
    "LlamaForCausalLM": ("Llama", LLAMA),
    "MistralForCausalLM": ("Mistral", LLAMA),
    "dummy-qwen2": ("Qwen2", LLAMA),
    "Gemma3ForCausalLM": ("Gemma3Text", {**LLAMA, "head_dim": 8}),
}


def load_tiny(original: Callable[..., Any]) -> Callable[..., Any]:
    """``from_pretrained`` that makes a model for a name of the hub, always the same; a folder is loaded as ever."""

    def from_pretrained(name: Any, *args: Any, dtype: Any = None, **kwargs: Any) -> Any:
        found = next((kind for end, kind in KINDS.items() if str(name).endswith(end)), None)
        if found is None:
            return original(name, *args, dtype=dtype, **kwargs)
        state = torch.get_rng_state()
        torch.manual_seed(0)
        config = getattr(transformers, f"{found[0]}Config")(**found[1])
        model = transformers.AutoModelForCausalLM.from_config(config)
        torch.set_rng_state(state)
        model.name_or_path = model.config._name_or_path = str(name)
        return model.to(dtype or torch.float32).eval()

    return from_pretrained
