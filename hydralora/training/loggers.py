"""Where else the numbers of a run go: TensorBoard, Weights & Biases, trackio."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from hydralora.config import ReportTo
from hydralora.errors import TrainingError

FOLDER = "tensorboard"  # in the run's folder


def logger_of(report_to: ReportTo, run_folder: Path, begin: int) -> list[TrainerCallback]:
    """What writes the numbers of a run, from step ``begin`` on, to the logger that was chosen; nothing for none.

    TensorBoard's files lie in the run's folder; a run that goes on replaces what was written after ``begin``. The
    others take their project and their keys from the environment, as their own documentation says.

    Raises:
        TrainingError: When its package is not installed, or it may not sign in.
    """
    if report_to == "none":
        return []
    if find_spec(report_to) is None:
        raise TrainingError(
            f"`report_to` is {report_to}, and the package {report_to} is not installed. Install it, or take none."
        )
    if report_to == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        return [TensorBoardCallback(SummaryWriter(str(run_folder / FOLDER), purge_step=begin + 1))]
    if report_to == "wandb" and not (os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") == "offline"):
        raise TrainingError(
            "`report_to` is wandb, and neither WANDB_API_KEY nor WANDB_MODE=offline is in this process' environment. "
            "Set one of them (docs/methods.md says how the studio's jobs get it), or take none."
        )
    return [{"wandb": WandbCallback, "trackio": TrackioCallback}[report_to]()]
