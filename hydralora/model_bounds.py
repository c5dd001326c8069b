"""How large the sizes of a model or an adapter may be: the one place where these bounds stand.

They lie well above every published model (in brackets what the largest has) and well below what would fill a machine
before the files are compared with the configuration.
"""

from __future__ import annotations

import re

MOST_LAYERS = 2_048  # (126)
MOST_HEADS = 65_536
MOST_EXPERTS = 65_536  # of the base (512)
MOST_LAYERS_TIMES_EXPERTS = 131_072  # modules that are built one by one (23,000)
MOST_VOCABULARY = 2**24  # (262,144)
MOST_POSITIONS = 2**27  # (10 million)
MOST_WIDTH = 2**20  # hidden and inner sizes (229,376)
MOST_NUMBER = 2**53  # any other number: whole ones stay exact as floats
MOST_BEAMS = 64

MOST_RANK = 4_096
MOST_ALPHA = 1e6
MOST_HEADS_OF_ADAPTER = 64
MOST_VIRTUAL_TOKENS = 512
MOST_PATTERNS = 1_024  # names with a rank or alpha of their own
MOST_NAMES = 100_000  # of layers
MOST_TARGETS = 1_024  # layers to adapt that are named
MOST_TENSORS = 500_000  # of one file or index (90,000)
MOST_NAME = 500  # characters

# What a whole number in config.json may be, by words in its name; the first that fits counts.
SIZES: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(words), most)
    for words, most in (
        (r"beam|return_sequences", MOST_BEAMS),
        (r"vocab", MOST_VOCABULARY),
        (r"layers?$|^n_layer|^num_.*layer|depth|blocks?$|block_count|stages", MOST_LAYERS),
        (r"position|sequence|seq_len|context|n_ctx|window|image_size|block_size|chunk", MOST_POSITIONS),
        (r"token_id|token_index|_ids?$", MOST_NUMBER),
        (r"head_dim|size|dim|width|inner|embd|d_model|d_ff|d_kv|hidden|channels|kernel|state|lora_rank", MOST_WIDTH),
        (r"head", MOST_HEADS),
        (r"expert", MOST_EXPERTS),
    )
)
