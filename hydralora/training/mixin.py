"""What every method's training is built on: a class put before any Trainer, and columns of the data that it reads.

``class Mine(SplitsByTask, SFTTrainer)`` trains with transformers' ``Trainer``, TRL's or the one here alike: the method
takes its settings as ``options`` and its columns (``task``, say) from the rows, and leaves the rest to the Trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hydralora.errors import TrainingError
from hydralora.options import MethodOptions

TASK = "task"  # the column: a name, or a number from 0
MOST_TASKS = 100_000  # by number: a column that holds larger ones is of something else


class TrainsMethod:
    """Put before a Trainer, the training of one method.

    Args:
        model: A model with the adapter of the method.
        args: The Trainer's arguments; everything else that it takes may follow by name.
        options: The method's settings; its usual ones where none are given.

    Raises:
        TrainingError: When the options are another method's, or rows are joined that the method tells apart.
    """

    takes: ClassVar[type[MethodOptions]]  # the kind of its options
    columns: ClassVar[tuple[str, ...]] = ()  # of the data, beside the model's own
    tells_rows_apart: ClassVar[bool] = True  # a row of a batch is one example
    unused: ClassVar[frozenset[str]] = frozenset()  # settings of a run that this training does not know

    def __init__(self, model: Any, args: Any, *more: Any, options: MethodOptions | None = None, **named: Any) -> None:
        self.options: Any = self.takes() if options is None else options
        if not isinstance(self.options, self.takes):
            raise TrainingError(
                f"`options` of {type(self).__name__} must be {self.takes.__name__}, got {type(options).__name__}."
            )
        for name in ("packing", "padding_free"):
            if self.tells_rows_apart and getattr(args, name, False):
                raise TrainingError(
                    f"`{name}` is on, but this method tells the rows of a batch apart. Leave `{name}` off."
                )
        super().__init__(model, args, *more, **named)  # type: ignore[call-arg]
        self.data_collator = self.wrap(self.data_collator)  # type: ignore[has-type]

    def wrap(self, collator: Any) -> Any:
        """The Trainer's collator, made to keep the method's columns."""
        return collator

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        self._signature_columns: list[str]
        self._signature_columns += [name for name in self.columns if name not in self._signature_columns]

    def find_column(self, name: str) -> list[Any]:
        """The values of a column of the training data, row by row.

        Raises:
            TrainingError: When the data is a stream, or has no such column.
        """
        data = self.train_dataset  # type: ignore[attr-defined]
        if not hasattr(data, "__len__"):
            raise TrainingError(f"`train_dataset` is a stream, and `{name}` is read of all rows first. Load it whole.")
        has_columns = hasattr(data, "column_names")
        found = name in data.column_names if has_columns else all(name in row for row in data)
        if not found or not len(data):
            raise TrainingError(
                f"The training data has no column `{name}`, which {type(self).__name__} needs. Add it to every row; "
                "packing drops it."
            )
        return list(data[name]) if has_columns else [row[name] for row in data]


class TaskCollator:
    """Another collator's batches with ``task`` ``(batch,)``, the number of every row's task.

    Args:
        inner: What makes a batch of the rows without their task.
        numbers: Number of a task by its name; numbers stand for themselves, and unknown names are -1.
    """

    def __init__(self, inner: Any, numbers: dict[Any, int]) -> None:
        self.inner, self.numbers = inner, numbers

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self.inner([{k: v for k, v in row.items() if k != TASK} for row in examples])
        if all(TASK in row for row in examples):
            batch[TASK] = torch.tensor([self.numbers.get(row[TASK], -1) for row in examples])
        return batch


class ReadsTasks(TrainsMethod):
    """A method that learns from tasks: the column ``task`` holds a name or a number from 0 for every row.

    Args:
        tasks: Names of the tasks in order, for messages, and the number of each where the column holds names; without
            them those of the column in alphabetical order.
    """

    columns = (TASK,)

    def __init__(self, model: Any, args: Any, *more: Any, tasks: Sequence[str] | None = None, **named: Any) -> None:
        self.tasks = list(tasks or ())
        super().__init__(model, args, *more, **named)

    def wrap(self, collator: Any) -> Any:
        """Number the tasks, and put each row's number into the batches."""
        values = self.find_column(TASK)
        if all(isinstance(value, int) for value in values):
            self.tasks = self.tasks or [str(number) for number in range(min(max(values) + 1, MOST_TASKS))]
            self.numbers: dict[Any, int] = {number: number for number in range(len(self.tasks))}
        else:
            self.tasks = self.tasks or sorted(set(map(str, values)))
            self.numbers = {name: number for number, name in enumerate(self.tasks)}
        self.groups = [self.numbers.get(value, -1) for value in values]
        if len(set(self.groups)) < 2 or -1 in self.groups:
            raise TrainingError(
                f"`{TASK}` of the training data must name two tasks or more, each from 0 or among `tasks`; found "
                f"{', '.join(map(str, list(dict.fromkeys(values))[:8]))}."
            )
        return TaskCollator(collator, self.numbers)

    def compute_loss(  # type: ignore[no-untyped-def]
        self, model, inputs, return_outputs=False, num_items_in_batch=None, **more
    ):
        """The Trainer's loss of the batch, of whose tasks ``use_tasks`` is told before."""
        self.use_tasks(model, inputs.pop(TASK, None))
        return super().compute_loss(  # type: ignore[misc]
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch, **more
        )

    def use_tasks(self, model: torch.nn.Module, tasks: Tensor | None) -> None:
        """Called before each pass with the task numbers ``(batch,)`` of its rows, -1 where a task is none of these."""
