"""What is wrong with a corpus, for a base model and a longest length: counts, examples, and what can be left out."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hydralora.results.base import Part, Result

FINDINGS = "findings.parquet"  # every example of every finding, beside the file: `finding`, `example`, `removable`
TOKENS = "tokens.parquet"  # beside it where a base was named: `example`, `tokens`
LANGUAGES = "languages.parquet"  # beside it: `example`, `language`, null where it cannot be told
UNTOLD = -1  # number of no language


class Finding(Part):
    """One thing that is wrong with some examples."""

    kind: str = Field(description="What it is, one word: `cut`, `copies`, `leaks` ...")
    count: int = Field(description="Examples that it concerns")
    title: str = Field(description="What it is, with its count, as a sentence")
    advice: str = Field(description="What it means, and what can be done")
    removable: int = Field(description="Examples that leaving it out would leave out; 0 where that is no remedy")
    action: str = Field(description="What leaving out does, for a button; empty where it is no remedy")
    shortens: int = Field(0, description="Examples that can be shortened as a remedy; 0 where that is none")
    examples: list[int] = Field(description="Positions of the first examples, up to 20")


class TokenLengths(Part):
    """How long examples are, in tokens of the base."""

    median: int = Field(description="Half of the examples are no longer")
    p95: int = Field(description="95 of 100 are no longer")
    longest: int = Field(description="The longest one")
    whole_at: dict[str, int] = Field(description="Examples that stay whole, by longest length (powers of two)")


class Shortened(Part):
    """Examples that were shortened to what a run takes, as a layer of edits over those that were there."""

    corpus_hash: str = Field(description="`content_hash` of the corpus")
    layer: str = Field(description="Name of the layer that holds them, and the edits from before")
    edits: str = Field(description="Name of the layer that was read; empty where nothing was edited")
    positions: list[int] = Field(description="Examples that are shorter there")
    left: int = Field(description="Examples that leaving out text does not mend; they stay as they were")
    max_length: int = Field(description="Tokens that they were shortened to, at most")


class Quality(Result):
    """A quality report; every example of its findings lies beside the file in `findings.parquet`."""

    FILE = "quality.json"
    ROW = ("sentence", "examples")

    sentence: str = Field(description="The report in one sentence")
    examples: int = Field(description="Examples looked at: those that are not left out")
    train: int = Field(description="Of these, examples that a new run would train on")
    held_out: int = Field(description="Of these, examples that it would hold out")
    base: str = Field("", description="Base model whose tokens were counted; empty where none was asked for")
    max_length: int = Field(0, description="Longest length in tokens that was asked about")
    lengths: TokenLengths | None = Field(None, description="Lengths in tokens; null without a base")
    languages: dict[str, float] = Field({}, description="Share of each language in those examples, by ISO 639 code")
    sampled: int = Field(0, description="Examples whose language is told")
    untold: int = Field(
        0, description="Examples whose language is not told: of less than 20 characters, or beyond the first 2,000,000"
    )
    findings: list[Finding] = Field(description="What is wrong, the gravest first")
    settings: dict[str, Any] = Field(
        {}, description="The training settings that decide all this, as they were asked for"
    )
    corpus_hash: str = Field("", description="`content_hash` of the corpus")
    selection: str = Field("", description="Name of the list of what was left out already; empty where nothing was")
    edits: str = Field("", description="Name of the layer of edited rows; empty where none was edited")
