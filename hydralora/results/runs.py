"""What came of a run, and what is known of a saved adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_serializer

from hydralora.config import RunConfig
from hydralora.results.base import Part, Result
from hydralora.results.energy import Energy

LOWER = 0.99  # of the last held-out loss: a step below that was better

NOT_TOLD_APART = "The chat template of the base does not let all their answers be told from the rest."


class RunSummary(Part):
    """What came of a training, or of taking in an adapter; the database keeps it with the run."""

    steps: int = Field(0, description="Optimizer steps done; 0 for an imported adapter")
    held_out_loss_before: float | None = Field(
        None, description="Held-out loss before training, nats per answer token or pair"
    )
    held_out_loss: float | None = Field(None, description="Held-out loss at the end, as before training")
    best_step: int | None = Field(None, description="Step with the lowest held-out loss; null where none was measured")
    best_held_out_loss: float | None = Field(None, description="Held-out loss at that step, nats per answer token")
    train_examples: int = Field(0, description="Examples trained on")
    held_out_examples: int = Field(0, description="Examples held out")
    skipped_examples: int = Field(0, description="Training examples that were longer than `max_length`")
    cut_examples: int = Field(0, description="Training examples that lost their end: longer than `max_length`")
    partly_examples: int = Field(0, description="Training examples of which not all answers could be learnt")
    leaking_examples: int = Field(0, description="Training examples left out: a held-out one has the same prompt")
    unpaired_examples: int = Field(0, description="Training examples left out: preferences are learnt, they hold none")
    pairs: int = Field(0, description="Pairs of a better and a worse answer trained on; 0 where answers are learnt")
    training_hash: str = Field("", description="`hash` of its training set; empty for runs of earlier versions")
    trainable: int = Field(0, description="Trainable parameters, the router left out; 0 if unknown")
    router: int = Field(0, description="Parameters of the router")
    total: int | None = Field(None, description="Parameters of base and adapter; null while the base is not there")
    note: str = Field("", description="What was learnt otherwise than asked for, as a sentence; mostly empty")
    seconds: float | None = Field(
        None, description="Duration of the training, over all attempts, in seconds; null if not trained here"
    )
    resumed_from: int | None = Field(None, description="Step from which the last attempt went on; null from the start")
    timed_from: int | None = Field(
        None,
        description="Step from which `seconds` count; null in earlier versions, where it is `resumed_from`",
    )
    imported: bool = Field(False, description="Whether the adapter was trained elsewhere")
    base_problem: str | None = Field(None, description="Why the base of an imported adapter is not there")
    peak_bytes: int | None = Field(None, description="Most memory of the job's processes, in bytes")
    energy: Energy | None = Field(None, description="Electricity, over all attempts; null where it was not counted")

    @property
    def seconds_per_step(self) -> float | None:
        """Seconds that a step of the training took; None where that is not known."""
        first = self.timed_from if self.timed_from is not None else self.resumed_from or 0
        return self.seconds / max(1, self.steps - first) if self.seconds else None

    @property
    def overfitting(self) -> tuple[str, str] | None:
        """For people, that the held-out loss was clearly lower at an earlier step, and what can be done; else None."""
        best, last = self.best_held_out_loss, self.held_out_loss
        if best is None or last is None or best >= LOWER * last:
            return None
        return (
            f"Step {self.best_step:,} was better than the end.",
            f"The held-out loss was {best:.3f} there and is {last:.3f} at the end: the run overfits. Train for about "
            f"{self.best_step:,} steps, or give it more data.",
        )

    @property
    def losses(self) -> list[tuple[str, str]]:
        """What was not trained on in full, for people; see ``told_losses``."""
        return told_losses(
            self.cut_examples,
            self.skipped_examples,
            self.leaking_examples,
            self.partly_examples,
            self.unpaired_examples,
        )


class TrainingSet(Result):
    """What a run is trained and measured on, written before its first step and looked at when it is resumed."""

    FILE = "training_set.json"

    hash: str = Field(description="SHA-256 over the content hashes of the examples trained on, in order, hexadecimal")
    corpus_hash: str = Field(description="`content_hash` of the corpus")
    examples: int = Field(description="Examples trained on")
    held_out: int = Field(description="Examples held out")
    skipped: int = Field(description="Examples left out because their prompt alone is longer than `max_length`")
    cut: int = Field(description="Examples trained on without their end: longer than `max_length`")
    partly: int = Field(0, description="Examples of which not all answers are learnt: the template does not tell them")
    split: int = Field(0, description="Plain texts trained on in pieces: longer than `max_length`")
    pieces: int = Field(0, description="Pieces that these were split into")
    leaking: int = Field(description="Examples left out because a held-out one has the same prompt")
    unpaired: int = Field(0, description="Examples left out because preferences are learnt and they hold none")
    pairs: int = Field(0, description="Pairs of a better and a worse answer trained on; 0 where answers are learnt")
    steps: int | None = Field(None, description="Steps planned; null in runs of earlier versions")
    encoded: str = Field(
        "", description="SHA-256 over tokens and labels of what is trained on and measured; empty in earlier versions"
    )

    @property
    def losses(self) -> list[tuple[str, str]]:
        """What is not trained on in full, for people; see ``told_losses``."""
        return told_losses(self.cut, self.skipped, self.leaking, self.partly, self.unpaired)


def told_losses(cut: int, skipped: int, leaking: int, partly: int, unpaired: int = 0) -> list[tuple[str, str]]:
    """What training does not see in full: how many examples, and why with the way out."""
    told = [
        (cut, "lost their end", "They are longer than `max_length`; raise it to keep them whole."),
        (skipped, "left out", "Their prompt alone is longer than `max_length`."),
        (partly, "learnt in part", NOT_TOLD_APART),
        (leaking, "left out", "A held-out example has the same prompt."),
        (unpaired, "left out", "Preferences are learnt, and they hold no better and worse answer."),
    ]
    return [(f"{count:,} {'example' if count == 1 else 'examples'} {what}.", why) for count, what, why in told if count]


class RunJournal(Result):
    """What a run keeps over all its attempts, in each of its checkpoints and under its seal."""

    FILE = "journal.json"

    config: RunConfig = Field(description="Base, method, options and training settings that the run began with")
    base_fingerprint: str | None = Field(None, description="16 hex digits of the base's weights")
    held_out_loss_before: float | None = Field(None, description="Held-out loss before training, nats per answer token")
    seconds: float = Field(0.0, description="Seconds of training up to this checkpoint, over all attempts")
    timed_from: int = Field(0, description="Step from which `seconds` count; 0, or where an earlier version ended")

    @field_serializer("config")
    def _with_every_default(self, config: RunConfig) -> dict[str, Any]:
        return config.model_dump()


class AdapterFacts(Result):
    """What is known of an adapter, beside its weights."""

    FILE = "run.json"

    config: RunConfig = Field(description="Base, method, options and training settings")
    base_fingerprint: str | None = Field(None, description="16 hex digits of the base's weights; null if unknown")
    summary: RunSummary = Field(RunSummary(), description="What came of the run")
    corpus_hash: str = Field("", description="`content_hash` of the corpus; empty for an imported adapter")
    versions: dict[str, str] = Field({}, description="Versions of the libraries it was made with")
    tasks: list[str] | None = Field(None, description="Names of the tasks in the order of their heads; null without")

    @field_serializer("config")
    def _with_every_default(self, config: RunConfig) -> dict[str, Any]:
        return config.model_dump()

    @classmethod
    def find(cls, adapter: Path) -> AdapterFacts | None:
        """What was written beside an adapter, or None for an adapter that was not made here.

        Raises:
            ResultError: When the file is damaged.
        """
        return cls.read(adapter) if (adapter / cls.FILE).exists() else None

    def row(self) -> dict[str, Any]:
        """Configuration and summary."""
        return {"config": self.config.model_dump(), "summary": self.summary.dump()}
