"""One training by Ray Train: what the cluster is asked for, and what its ends mean to us.

https://docs.ray.io/en/latest/train/api/doc/ray.train.torch.TorchTrainer.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydralora.errors import StoppedError, UserError
from jobs.runner.begin import needs_of
from jobs.runner.choice import NO_ROOM
from jobs.runner.ray_rank import LostError, train_along

STORAGE = "ray"  # in the attempt's folder: what Ray Train writes, which nobody needs


def fit(folder: Path, processes: int, environment: dict[str, str]) -> dict[str, Any]:
    """Train the attempt in ``folder``, and give what its first process returns; all begin with ``environment``.

    Raises:
        LostError: When a process has ended without a word.
        StoppedError: When there is no room for all of them.
        UserError: With what one has failed by.
        RuntimeError: The same, where nobody foresaw it.
    """
    from ray.exceptions import RayError
    from ray.train import ControllerError, WorkerGroupError

    try:
        found: dict[str, Any] = _trainer(folder, processes, environment).fit().return_value
    except WorkerGroupError as error:
        raise _cause(list(error.worker_failures.values())) from error
    except ControllerError as error:
        raise _why_not_begun(error.controller_failure) from error
    except RayError as error:
        raise LostError(type(error).__name__) from error
    return found


def _trainer(folder: Path, processes: int, environment: dict[str, str]) -> Any:
    """Ray tries nothing again: that is the queue's. Processes with GPUs are packed, since they talk most; others are
    spread, each with the memory of a node."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    needs = {name: need for name, need in needs_of(folder).items() if need}
    has_gpu = "GPU" in needs
    failures = FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=0)
    return TorchTrainer(
        train_along,
        train_loop_config={"folder": str(folder)},
        torch_config=TorchConfig(backend="nccl" if has_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=processes,
            use_gpu=has_gpu,
            resources_per_worker=needs,
            placement_strategy="PACK" if has_gpu else "SPREAD",
        ),
        run_config=RunConfig(
            storage_path=str(folder / STORAGE),
            name="train",
            failure_config=failures,
            worker_runtime_env={"env_vars": environment},
        ),
    )


def _cause(failures: list[Exception]) -> Exception:
    """Why all have ended: what one said of itself before what others saw of that."""
    from ray.exceptions import ActorDiedError

    said = [getattr(failure, "_base_exc", None) for failure in failures]  # nothing of a process that has died
    for kind in (UserError, RuntimeError):
        if found := next((error for error in said if isinstance(error, kind)), None):
            return found
    lost = LostError(", ".join({type(failure).__name__ for failure in failures}))
    lost.is_known = any(isinstance(getattr(one, "health_check_failure", None), ActorDiedError) for one in failures)
    return lost


def _why_not_begun(failure: Exception) -> Exception:
    """Why Ray Train gave up before the processes worked, by the name of its error."""
    name = type(failure).__name__
    if name in ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError"):
        return StoppedError(NO_ROOM)
    if name == "WorkerGroupStartupFailedError":
        return LostError(name)
    return RuntimeError(f"{name}: {failure}")
