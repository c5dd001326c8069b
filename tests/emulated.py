"""A device that is not the CPU, on any machine: tensors that lie apart, computed by the CPU.

``HYDRA_TEST_DEVICE=emulated`` runs the tests of the library on it. Like a GPU it refuses an operation on tensors of two
devices; what has no dimension, and what chooses rows, may come from the CPU there too. It has PyTorch's device guard
and autograd, and no kernels, streams or memory of its own, so it shows where a tensor is made on the wrong device and
nothing of speed or of a card's arithmetic.

Source: https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-with-a-tensor-wrapper-type
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from threading import Thread
from typing import Any

import torch
from accelerate import PartialState
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from transformers import TrainingArguments

from hydralora.bases import load

NAME = "emulated"
aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default, aten._copy_from.default}
CHOOSES = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
NOT_EMULATED = {  # a test, and what the device lacks for it
    "test_the_layer_compiles_into_one_graph_with_the_same_gradients": "a compiler",
    "test_a_whole_model_compiles_into_one_graph_and_trains_the_same": "a compiler",
    "test_a_compiled_step_gives_the_same_answer_and_gates": "a compiler",
    "test_a_model_trains_under_autocast_in_the_base_type_with_float32_weights": "autocast",
    "test_on_a_gpu_a_step_is_a_graph": "graphs",
    "test_tied_tables_stay_tied": "weights that stay one where a model is moved",
    "test_a_run_learns_and_answers_on_its_type[int8]": "kernels of quantised layers",
    "test_a_run_learns_and_answers_on_its_type[nf4]": "kernels of quantised layers",
    "test_a_type_that_this_machine_cannot_compute_in_is_a_sentence": "kernels of quantised layers",
}
KEPT: list[torch.library.Library] = []  # a library that is collected takes its kernels with it


class Apart(torch.Tensor):
    """A tensor of the emulated device; ``inner`` holds its numbers on the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Apart:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        torch.Tensor.data.__set__(self, value)
        self.inner = value.inner

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        if id(self) not in memo:
            made = self.detach().clone().requires_grad_(self.requires_grad)
            is_weight = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(made, self.requires_grad) if is_weight else made
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)  # as it is saved, it is loaded on any device

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype).to(device or self.device)

    def __getitem__(self, chosen: Any) -> torch.Tensor:
        return super().__getitem__(self._lists_moved(chosen))

    def __setitem__(self, chosen: Any, value: Any) -> None:
        super().__setitem__(self._lists_moved(chosen), value)

    def _lists_moved(self, chosen: Any) -> Any:
        """A choice by lists becomes one by tensors, which PyTorch makes by a kernel in C++ else."""
        one_by_one = chosen if isinstance(chosen, tuple) else (chosen,)
        moved = tuple(torch.tensor(part).to(self.device) if isinstance(part, list) else part for part in one_by_one)
        return moved if isinstance(chosen, tuple) else moved[0]

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __repr__(self, **_: Any) -> str:
        return f"Apart({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``func`` gives, computed by the CPU; refused where tensors of two devices meet."""
    if func is aten._has_compatible_shallow_copy_type.default:
        return isinstance(args[0], Apart) == isinstance(args[1], Apart)
    _refuse_two_devices(func, [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)])
    inner_args, inner_kwargs = tree_map(_unwrapped, (args, kwargs))
    if func is aten.histc.default:  # the CPU has it for fractions only
        inner_args = (inner_args[0].float(), *inner_args[1:])
    out = func(*inner_args, **inner_kwargs)
    written = _written(func, args, kwargs)
    if written is not None:
        return written
    target = kwargs.get("device")
    if target is not None and torch.device(target).type != NAME:
        return out
    views = any(one.alias_info for one in func._schema.returns)
    with torch.inference_mode(args[0].is_inference()) if views else nullcontext():  # a view is as what it is a view of
        return tree_map(_wrapped, out)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation in place, or one with ``out``, has written to and gives back; None for another one."""
    if not any(one.alias_info and one.alias_info.is_write for one in func._schema.returns):
        return None
    given = dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | kwargs
    found = [given[one.name] for one in func._schema.arguments if one.alias_info and one.alias_info.is_write]
    return found[0] if len(func._schema.returns) == 1 else tuple(found)


def _refuse_two_devices(func: Any, tensors: list[torch.Tensor]) -> None:
    if func in MOVES or func in CHOOSES or not any(isinstance(one, Apart) for one in tensors):
        return
    if any(not isinstance(one, Apart) and one.dim() for one in tensors):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME} and cpu in {func}.")


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Apart):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value


def _wrapped(value: Any) -> Any:
    return Apart(value) if isinstance(value, torch.Tensor) and not isinstance(value, Apart) else value


class _Backend:
    """What PyTorch asks of a device's module; its random numbers are the CPU's."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """The CPU's generator is seeded."""

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def set_device(self, device: Any) -> None:
        """There is one."""


class _MadeByMoving(TorchFunctionMode):
    """``torch.tensor`` looks for a kernel in C++ that makes it in place."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") is not None and torch.device(kwargs["device"]).type == NAME:
            return func(*args, **{**kwargs, "device": "cpu"}).to(NAME)
        return func(*args, **kwargs)


def _in_mode(run: Callable[[Thread], None], thread: Thread) -> None:
    with _MadeByMoving():
        run(thread)


def _own_device(arguments: TrainingArguments) -> torch.device:
    return torch.device(NAME, 0) if arguments._setup_devices.type == "cpu" else arguments._setup_devices


def install() -> None:
    """Make the device known to PyTorch, for the whole process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend  # not in every PyTorch

    _setup_privateuseone_for_python_backend(NAME, _Backend())
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda op, *args, **kwargs: compute(op, args, kwargs), "PrivateUse1")
    KEPT.append(library)
    _MadeByMoving().__enter__()
    run = Thread.run
    Thread.run = lambda self: _in_mode(run, self)  # a mode is of one thread
    torch.autograd.set_multithreading_enabled(False)
    load.choose_device = lambda: NAME
    PartialState.default_device = property(lambda self: torch.device(NAME, 0))
    TrainingArguments.device = property(_own_device)
    torch.Tensor.pin_memory = lambda self, device=None: self  # there is no memory to copy from faster
