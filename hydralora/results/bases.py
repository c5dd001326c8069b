"""What is known of a base model: from its files, and from loading it once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hydralora.results.base import Part


class BaseFacts(Part):
    """What the small files of a base and the heads of its weights tell."""

    name: str = Field(description="What it is called on the list")
    architecture: str = Field(description="Class of transformers that computes it")
    parameters: int = Field(description="Numbers in its weight files")
    stored: str = Field(description="Type that most of them are stored in: F32, BF16, ...")
    bytes: int = Field(description="Size of its weight files")
    layers: int = Field(description="Decoder blocks; 0 where its configuration does not say")
    width: int = Field(description="Width of the hidden states; 0 where its configuration does not say")
    inner: int = Field(description="Width inside the feed-forward layers")
    key_width: int = Field(description="Width of all keys of one token, and of all values")
    vocabulary: int = Field(description="Rows of the embedding")
    context: int = Field(description="Positions it was made for, in tokens; 0 where its configuration does not say")
    has_template: bool = Field(description="Whether it brings a chat template")
    licence: str = Field("", description="As its README or package says; empty where nothing does")
    linear: dict[str, list[list[int]]] = Field(
        description="Shapes ``[out, in]`` of the linear layers inside its blocks, by the last part of their name"
    )


class Problem(Part):
    """One thing that a check of a base found."""

    weight: Literal["wrong", "note"] = Field(description="wrong: it cannot be used so; note: to know")
    title: str = Field(description="What it is, as a sentence")
    advice: str = Field(description="What it means, and the way out")


class BaseCheck(Part):
    """What loading a base once has shown."""

    sentence: str = Field(description="The check in one sentence")
    example: list[tuple[str, bool]] = Field(
        description="A rendered exchange in pieces; the second says whether a piece is learnt"
    )
    tokens: int = Field(description="Tokens of that exchange")
    end: str = Field(description="The token that ends an answer")
    tokens_per_word: float = Field(description="Tokens for each word of a plain English text")
    loss: float | None = Field(None, description="Loss of that text, nats per token; null where it was not computed")
    chance: float = Field(description="Loss of guessing among all tokens: log of the vocabulary")
    mark: str = Field(description="Tells the files that were checked from others")
    problems: list[Problem] = Field(description="What was found, the gravest first")
