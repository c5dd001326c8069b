"""Answers of the base and of the tuned model to the same questions."""

from __future__ import annotations

from pydantic import Field

from hydralora.results.base import Part, Result


class Score(Part):
    """How often the answers of one model are right."""

    exact_match: float = Field(
        description="Share of answers equal to the wanted one, white space aside outside of code, 0 to 1"
    )
    rouge_l: float | None = Field(
        None, description="Mean ROUGE-L F1 of the answers, 0 to 1; null in results of earlier versions"
    )
    hits: list[bool] = Field(description="Whether each answer is right, ``(examples,)``")
    by_label: dict[str, float] = Field(description="`exact_match` by label; `all` where there is none")


class AnswerRow(Part):
    """One question; texts are cut after 600 characters."""

    id: int = Field(description="Position of the example in the corpus")
    prompt: str = Field(description="The question")
    wanted: str = Field(description="The answer in the corpus")
    label: str = Field(description="The example's label, empty without one")
    base: str = Field(description="Answer of the base model")
    tuned: str = Field(description="Answer with the adapter")


class Answers(Result):
    """Base and tuned model side by side."""

    FILE = "answers.json"
    ROW = ("sentence", "examples")

    examples: int = Field(description="Questions asked")
    scores: dict[str, Score] = Field(description="Scores of `base` and `tuned`")
    sentence: str = Field(description="The scores in words")
    learnt_prompts: int = Field(
        0, description="Questions whose prompt was also trained on, as in runs of earlier versions, split by row"
    )
    is_own: bool = Field(True, description="Whether these are held-out examples of the corpus it was trained on")
    rows: list[AnswerRow] = Field(description="The questions with their answers, ``(examples,)``")
