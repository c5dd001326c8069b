"""``HydraLoraModel``: puts routed layers into a model, the PEFT way."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hydralora.errors import AdapterError
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.layer import HydraLoraLinear
from hydralora.tuner.register import register_when_ready


class HydraLoraModel(BaseTuner):
    """PEFT tuner of ``HydraLoraConfig``; made by ``get_peft_model``, not by hand.

    Adapts every ``nn.Linear`` (quantised ones included) and GPT-2's ``Conv1D`` that the
    configuration names. Injection, saving, switching and deleting are PEFT's own.
    """

    prefix = "hydralora_"
    tuner_layer_cls = HydraLoraLinear
    target_module_mapping: ClassVar[dict[str, list[str]]] = dict(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING)

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        """Targets that were not named: by PEFT's table, or all linear layers of a model it does not know."""
        kind = model_config.get("model_type", "custom")
        if peft_config.target_modules is None and kind not in {"custom", *self.target_module_mapping}:
            peft_config.target_modules = "all-linear"
        return super()._prepare_adapter_config(peft_config, model_config)

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
        if config.router_input == "pooled":
            self._watch_tokens()
        if isinstance(target, HydraLoraLinear):
            target.update_layer(adapter_name, config)
            return
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not isinstance(base, (nn.Linear, Conv1D)):
            raise AdapterError(
                f"Layer '{current_key}' is a {type(base).__name__}; only linear layers can be adapted. "
                "Name other target modules."
            )
        layer = HydraLoraLinear(target, adapter_name, current_key, config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _watch_tokens(self) -> None:
        """See every call of the model: a layer alone knows neither padding nor a cache."""
        if not getattr(self, "watched", False):
            self.watched = True
            self.model.register_forward_pre_hook(
                lambda _, args, kwargs: self._note_tokens(args, kwargs), with_kwargs=True
            )

    def pools(self) -> bool:
        """Whether a router at work pools over tokens, which no key-value cache allows."""
        return any(
            name in layer.hydralora_router and layer.options[name].router_input == "pooled"
            for layer in self.routed_layers()
            if not layer.disable_adapters
            for name in layer.active_adapters
        )

    def _note_tokens(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.pools():
            return
        given = inspect.signature(type(self.model).forward).bind_partial(self.model, *args, **kwargs).arguments
        given |= given.pop("kwargs", {})
        mask = given.get("attention_mask")
        caches = [given[name] for name in ("cache", "past_key_values") if given.get(name) is not None]
        if any(cache.get_seq_length() > 0 for cache in caches):
            raise AdapterError(
                "A pooled router reads every earlier token of an example, and a key-value cache holds none of them. "
                "Generate with `use_cache=False`, or train with `router_input` x or Ax."
            )
        for layer in self.routed_layers():
            layer.real = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None

    def _check_merge_allowed(self) -> None:
        """Refuse before any weight is touched: a router decides per token, or the base is quantised."""
        super()._check_merge_allowed()
        for layer in self.routed_layers():
            layer.check_base_merges()
            for name in layer.active_adapters:
                if name in layer.hydralora_A:
                    layer.get_delta_weight(name)

    def routed_layers(self) -> list[HydraLoraLinear]:
        """Every adapted layer, in model order."""
        return [module for module in self.model.modules() if isinstance(module, HydraLoraLinear)]

    def auxiliary_loss(self) -> Tensor | None:
        """``balance_weight`` times the mean balance loss of the layers, or None when it is off.

        Raises:
            AdapterError: When gradients cannot reach the gates (re-entrant checkpointing).
        """
        weight = max(config.balance_weight for config in self.peft_config.values())
        if not weight:
            return None
        losses = [layer.balance for layer in self.routed_layers() if layer.balance is not None]
        if not losses:
            return None
        if torch.is_grad_enabled() and not losses[0].requires_grad:
            raise AdapterError(
                "The balance loss has no gradient under re-entrant gradient checkpointing. "
                "Use `gradient_checkpointing_kwargs={'use_reentrant': False}`."
            )
        return weight * torch.stack(losses).mean()


register_when_ready()
