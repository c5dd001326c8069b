"""``HydraLoraModel``: puts routed layers into a model, the PEFT way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

from accelerate import init_empty_weights
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, _maybe_include_all_linear_layers
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn

from hydralora.errors import AdapterError
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.experts import HydraLoraExperts
from hydralora.tuner.layer import HydraLoraLinear
from hydralora.tuner.mixed import mixed_batch
from hydralora.tuner.passes import Pass, is_seq2seq, pools, watch
from hydralora.tuner.register import register_when_ready
from hydralora.tuner.routed import RoutedLayer
from hydralora.tuner.targets import check_target, is_base_router

ALL_LINEAR = "all-linear"  # PEFT's word for it


class HydraLoraModel(BaseTuner):
    """PEFT tuner of ``HydraLoraConfig``; made by ``get_peft_model``, not by hand.

    Adapts every ``nn.Linear`` (quantised ones included) and GPT-2's ``Conv1D`` that the
    configuration names, and stacked experts by ``target_parameters``. Injection of layers, saving, switching and
    deleting are PEFT's own.
    """

    prefix = "hydralora_"
    tuner_layer_cls = RoutedLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = dict(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING)

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        """Targets that were not named: by PEFT's table, or all linear layers of a model it does not know.

        The routers of a mixture are linear layers that are never meant.
        """
        kind = model_config.get("model_type", "custom")
        if peft_config.target_modules is None and peft_config.target_parameters:
            return peft_config  # these alone
        if peft_config.target_modules is None and kind not in {"custom", *self.target_module_mapping}:
            peft_config.target_modules = ALL_LINEAR
        config = super()._prepare_adapter_config(peft_config, model_config)
        if isinstance(config.target_modules, str) and config.target_modules.lower() == ALL_LINEAR:
            names = _maybe_include_all_linear_layers(config, self.model).target_modules
            config.target_modules = {name for name in names if not is_base_router(self.model, name)}
        return config

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        """Put an adapter into ``model``; a name that was there before begins anew."""
        watch(model).routers.forget(adapter_name)
        return super().inject_adapter(model, adapter_name, *args, **kwargs)

    def _inject_parameters(
        self, peft_config: Any, model: nn.Module, adapter_name: str, low_cpu_mem_usage: bool
    ) -> list[str]:
        """Put heads beside stacked experts; gives the names of the parameters that were matched.

        PEFT's own knows wrappers of one parameter; heads of all parameters of a module stand in one.
        """
        wanted = sorted(peft_config.target_parameters)
        found: list[str] = []
        for name, module in list(model.named_modules()):
            wrapped = isinstance(module, HydraLoraExperts)
            base = module.get_base_layer() if wrapped else module
            inside = any(part == "base_layer" or part.startswith(self.prefix) for part in name.split("."))
            keys = [] if inside else [f"{name}.{each}" for each, _ in base.named_parameters(recurse=False)]
            matched = [key for key in keys if key.endswith(tuple(f".{each}" for each in wanted)) or key in wanted]
            if matched:
                with init_empty_weights() if low_cpu_mem_usage else nullcontext():
                    self._add_to_experts(
                        peft_config, adapter_name, module, name, [key[len(name) + 1 :] for key in matched]
                    )
                found += matched
        return found

    def _add_to_experts(
        self, config: HydraLoraConfig, adapter_name: str, module: Any, name: str, parameters: list[str]
    ) -> None:
        now = self._watch(config)
        if isinstance(module, HydraLoraExperts):
            module.update_layer(adapter_name, config, parameters)
            return
        layer = HydraLoraExperts(module, adapter_name, name, config, parameters, now)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        parent, _, last = name.rpartition(".")
        setattr(self.model.get_submodule(parent), last, layer)

    def _watch(self, config: HydraLoraConfig) -> Pass:
        """What the layers share about a pass, ready for an adapter of this configuration."""
        now = watch(self.model)
        now.may_pool = now.may_pool or config.router_input == "pooled"
        now.may_lose = now.may_lose or config.losses.any
        now.is_seq2seq = is_seq2seq(self.model)
        return now

    def _create_and_replace(
        self,
        config: HydraLoraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **optional: Any,
    ) -> None:
        now = self._watch(config)
        if isinstance(target, HydraLoraLinear):
            target.update_layer(adapter_name, config)
            return
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        check_target(self.model, current_key, base, parent)
        layer = HydraLoraLinear(target, adapter_name, current_key, config, now)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Put a layer in place of another; a new one has taken the device of its base already.

        PEFT's own also copies weights, which those of trained tokens are not to be.
        """
        setattr(parent, child_name, new_module)

    def pools(self) -> bool:
        """Whether a router at work pools over tokens, which no key-value cache allows."""
        return pools(self.model)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """PEFT runs every pass inside; with ``adapter_names`` each example has an adapter of its own."""
        names = kwargs.get("adapter_names")
        inside = mixed_batch(self.model, set(self.peft_config), names, kwargs.get("num_beams") or 1) if names else None
        with inside or nullcontext():
            yield

    def _check_merge_allowed(self) -> None:
        """Refuse before any weight is touched: a router decides per token, or the base is quantised."""
        super()._check_merge_allowed()
        for layer in self.model.modules():
            if isinstance(layer, (HydraLoraLinear, HydraLoraExperts)):
                for name in layer.active_adapters:
                    if name in layer.hydralora_A:
                        layer.check_merges(name)

    def add_weighted_adapter(self, *args: Any, **kwargs: Any) -> None:
        """PEFT's LoRA adds adapters up; gates that depend on the input cannot be added.

        Raises:
            AdapterError: Always.
        """
        raise AdapterError(
            "Routed adapters cannot be added up into one: each has gates of its own. Let several be at work together "
            "with `base_model.set_adapter([...])`, or export plain LoRAs and add those."
        )

    def routed_layers(self) -> list[HydraLoraLinear]:
        """Every adapted linear layer, in model order."""
        return [module for module in self.model.modules() if isinstance(module, HydraLoraLinear)]

    @contextmanager
    def collecting_losses(self) -> Iterator[list[Tensor]]:
        """Inside, the losses that training passes leave are put into the list that it gives, and not kept here."""
        now = watch(self.model)
        outer, now.collected = now.collected, []
        try:
            yield now.collected
        finally:
            now.collected = outer

    def auxiliary_loss(self) -> Tensor | None:
        """The weighted losses of the routers that are still to be added to a loss, a scalar; None where there are none.

        A model that is given labels adds them to its loss while it trains, so there is nothing left to add. One that
        is not leaves them here for the loop that computes a loss of its own, until the next pass begins.
        """
        now = watch(self.model)
        owed, now.owed = now.owed, None
        return owed


register_when_ready()
