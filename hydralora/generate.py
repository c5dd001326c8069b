"""Answer messages with a base model and any of its adapters, token by token, with gate weights."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError
from transformers import StoppingCriteriaList, set_seed

from hydralora.adapters.files import check_folder
from hydralora.adapters.full import drop_copies
from hydralora.answer_settings import Change, GenerationSettings
from hydralora.bases.fingerprint import fingerprint
from hydralora.bases.load import choose_device, context_length, load_base
from hydralora.corpus.encode import encode_prompt, encode_start, end_tokens
from hydralora.errors import AdapterError, ContextError
from hydralora.files import size_on_disk
from hydralora.results import AdapterFacts
from hydralora.static_answers import StaticAnswers
from hydralora.streaming import Answer, GateStreamer, StopsWhenTold, TokenEvent, until_stop
from hydralora.tuner.gates import GateCapture, gate_layers, override_experts

MAX_ADAPTERS = 16  # kept in memory beside one base; the one used longest ago leaves first
MOST_ADAPTER_BYTES = 2**31  # of all that are kept, as they lie on disk; the one in use stays
BROKEN = "\ufffd"  # what half of a multi-byte character decodes to

Said = list[dict[str, str]] | str  # a conversation, or a text that is gone on with as it stands


def _kind(config: PeftConfig) -> tuple[type, bool, bool]:
    """What may live in one model: adapters of one type, and whole copies of layers or rows only among themselves."""
    whole, rows = (bool(getattr(config, name, None)) for name in ("modules_to_save", "trainable_token_indices"))
    return type(config), whole, rows


class ChatModel:
    """One base model in memory with many adapters, one of which answers at a time.

    Not for several threads at once: whoever holds it serves one answer to its end.

    Args:
        base: Name or folder of the base model.
        dtype: Type of its weights (see ``load_base``): adapters answer on the type they were trained on.
        device: Where it lies; chosen where None.
        static: Decode with a static cache, as a CUDA graph on a GPU; None is on a GPU alone, where it pays off.
    """

    def __init__(
        self, base: str, *, dtype: str = "float32", device: str | None = None, static: bool | None = None
    ) -> None:
        self.base_name, self.dtype = base, dtype
        self.base, self.tokenizer = load_base(base, dtype=dtype, device=device or choose_device())
        self.base.eval()
        self.mark = fingerprint(self.base)
        self.model: Any = self.base
        self.adapters: OrderedDict[str, str] = OrderedDict()  # folder -> adapter name
        self._layers: list[BaseTunerLayer] | None = None  # where switching an adapter is all that must be done
        self._count = 0
        self._static = StaticAnswers(self.base.device.type == "cuda" if static is None else static)

    def use(self, adapter: Path | None) -> Any:
        """The model with this adapter in charge, loading it when needed; None is the base.

        Raises:
            AdapterError: When the adapter is missing, damaged or made for another base.
        """
        if adapter is None:
            return self.base if not isinstance(self.model, PeftModel) else None
        key = str(adapter)
        if key in self.adapters:
            self._switch(self.adapters[key])
            self.adapters.move_to_end(key)
            return self.model
        check_folder(adapter)
        config = self._read_config(adapter)
        if isinstance(self.model, PeftModel) and not self._fits_beside(config):
            self.unload()
        name = f"adapter{self._count}"
        self._count += 1
        try:
            if isinstance(self.model, PeftModel):
                self.model.load_adapter(adapter, adapter_name=name)
            else:
                self.model = PeftModel.from_pretrained(self.base, adapter, adapter_name=name)
        except (RuntimeError, ValueError, OSError, KeyError, SafetensorError) as error:
            self._clear_away(name)
            raise AdapterError(
                f"The adapter in {adapter.parent.name} does not fit base '{self.base_name}': "
                f"{str(error).splitlines()[0][:200]}"
            ) from error
        self.adapters[key] = name
        self.model.set_adapter(name)
        self.model.eval()
        self._layers = self._switchable_layers()
        self._drop_oldest()
        return self.model

    def _switchable_layers(self) -> list[BaseTunerLayer] | None:
        """The layers with adapters; None where an adapter is more than these."""
        modules = list(self.model.modules())
        if self.model.active_peft_config.is_prompt_learning:
            return None
        if any(isinstance(module, AuxiliaryTrainingWrapper) for module in modules):
            return None
        return [module for module in modules if isinstance(module, BaseTunerLayer)]

    def _switch(self, name: str) -> None:
        """As PEFT's ``set_adapter``, without telling every weight of every adapter whether it is trained.

        That takes 74 ms with 16 adapters on 210 layers, and nothing is trained here (docs/endpoint.json).
        """
        if self._layers is None:
            self.model.set_adapter(name)
            return
        self.model.active_adapter = self.model.base_model.active_adapter = name
        for layer in self._layers:
            layer._active_adapter = [name]

    @contextmanager
    def _adapters_off(self) -> Iterator[None]:
        """As PEFT's ``disable_adapter``, in the same way."""
        if self._layers is None:
            with self.model.disable_adapter():
                yield
            return
        try:
            for layer in self._layers:
                layer._disable_adapters = True
            yield
        finally:
            for layer in self._layers:
                layer._disable_adapters = False

    def _read_config(self, adapter: Path) -> PeftConfig:
        facts = AdapterFacts.find(adapter)
        if facts and not self.mark.fits(facts.base_fingerprint):
            raise AdapterError(
                f"This adapter was trained on another base model ({facts.config.base}) than "
                f"the one loaded ({self.base_name}). Choose the run's own base."
            )
        try:
            return PeftConfig.from_pretrained(str(adapter))
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise AdapterError(
                f"The adapter in {adapter.parent.name} has no readable adapter_config.json. Save it again."
            ) from error

    def _clear_away(self, name: str) -> None:
        """Take off what a failed loading has left in the model."""
        if isinstance(self.model, PeftModel):
            if name in self.model.peft_config:
                self.model.delete_adapter(name)
            return
        drop_copies(self.base)
        for path, module in list(self.base.named_modules()):
            if isinstance(module, BaseTunerLayer):
                parent, _, last = path.rpartition(".")
                setattr(self.base.get_submodule(parent), last, module.get_base_layer())

    def _fits_beside(self, config: PeftConfig) -> bool:
        kinds = {_kind(loaded) for loaded in self.model.peft_config.values()}
        return kinds == {_kind(config)} and not config.is_prompt_learning

    def _drop_oldest(self) -> None:
        sizes = {folder: size_on_disk(Path(folder)) for folder in self.adapters}
        while len(self.adapters) > MAX_ADAPTERS or (
            len(self.adapters) > 1 and sum(sizes[folder] for folder in self.adapters) > MOST_ADAPTER_BYTES
        ):
            _, name = self.adapters.popitem(last=False)
            self._static.drop()
            self.model.delete_adapter(name)

    def unload(self) -> None:
        """Take every adapter off; the base stays."""
        self._static.drop()
        if isinstance(self.model, PeftModel):
            prompt = self.model.active_peft_config.is_prompt_learning
            drop_copies(self.model.get_base_model())
            self.base = self.model.get_base_model() if prompt else self.model.unload()
        self.model = self.base
        self._layers = None
        self.adapters.clear()

    def stream(
        self,
        messages: Said,
        *,
        adapter: Path | None = None,
        settings: GenerationSettings | None = None,
        stop: threading.Event | None = None,
        factors: dict[int, float] | None = None,
        force: int | None = None,
        layers: dict[str, Change] | None = None,
        answer: Answer | None = None,
        stops: Sequence[str] = (),
        room: int | None = None,
        gates: bool = True,
    ) -> Iterator[TokenEvent]:
        """Yield the answer's tokens as they come; ``answer`` is filled in on the way.

        ``factors`` and ``force`` change experts in every layer, ``layers`` in the ones it names.

        Args:
            messages: A conversation, or a text that is gone on with as it stands.
            stops: Texts before which the answer ends.
            room: Tokens that must be left for the answer; None leaves out old messages until it fits.
            gates: Whether the gates of every token are wanted.

        Raises:
            ContextError: When the last message alone does not fit the context, or, with ``room``, when not all of it
                does.
        """
        settings, answer = settings or GenerationSettings(), answer or Answer()
        stop = stop or threading.Event()
        ids, answer.dropped = self._fit(messages, settings, room)
        answer.prompt_tokens = len(ids)
        events: queue.Queue[Any] = queue.Queue()
        with ExitStack() as stack:
            model = stack.enter_context(self._speaking(adapter, factors or {}, force, layers or {}))
            capture = stack.enter_context(GateCapture(model, enabled=gates and adapter is not None))
            answer.layers = list(capture.names)
            changed = bool(factors or layers) or force is not None
            decode = self._static.using(adapter, changed)
            thread = threading.Thread(
                target=self._generate, args=(model, ids, settings, stop, events, capture, decode), daemon=True
            )
            thread.start()
            try:
                yield from until_stop(self._pieces(events, answer, settings, stop), stops, answer)
            finally:  # also when the reader goes away in mid-answer
                stop.set()
                thread.join()

    @contextmanager
    def _speaking(
        self, adapter: Path | None, factors: dict[int, float], force: int | None, layers: dict[str, Change]
    ) -> Iterator[Any]:
        """The model with this adapter in charge and its experts changed."""
        with ExitStack() as stack:
            model = self.use(adapter)
            if model is None:  # the base, while adapters are in place
                model = self.model
                stack.enter_context(self._adapters_off())
            if adapter is not None and layers:
                names = dict.fromkeys([*gate_layers(model), *layers])  # an unknown name is refused below
                plan = {name: {**factors, **(layers[name].factors if name in layers else {})} for name in names}
                forced = {name: force for name in names if force is not None}
                forced |= {name: change.force for name, change in layers.items() if change.force is not None}
                stack.enter_context(override_experts(model, plan, force=forced))
            elif adapter is not None and (factors or force is not None):
                stack.enter_context(override_experts(model, factors, force=force))
            yield model

    @torch.inference_mode()
    def score(
        self,
        messages: Said,
        tokens: list[int],
        *,
        adapter: Path | None = None,
        settings: GenerationSettings | None = None,
        factors: dict[int, float] | None = None,
        force: int | None = None,
        layers: dict[str, Change] | None = None,
    ) -> list[float]:
        """Probability of each of ``tokens`` after ``messages`` and the tokens before it, ``softmax(logits)``.

        What an answer would have made of another one's words. Temperature and top-p are left out:
        they choose among these probabilities.
        """
        prompt, _ = self._fit(messages, settings or GenerationSettings())
        kept = tokens[: max(0, context_length(self.base) - len(prompt))]
        if not kept:
            return []
        ids = torch.tensor([[*prompt, *kept]], device=self.base.device)
        with self._speaking(adapter, factors or {}, force, layers or {}) as model:
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        own = logits[0, -len(kept) - 1 : -1].float().softmax(-1)  # (tokens, vocabulary)
        found: list[float] = own.gather(-1, ids[0, -len(kept) :, None]).squeeze(-1).tolist()
        return found

    def _fit(self, messages: Said, settings: GenerationSettings, wanted: int | None = None) -> tuple[list[int], int]:
        """Prompt ids that leave room for the answer, and how many old messages were left out."""
        limit = context_length(self.base)
        if wanted is not None or isinstance(messages, str):
            return self._whole(messages, limit, wanted or 1), 0
        room = limit - min(settings.max_tokens, limit // 2)
        kept, dropped = list(messages), 0
        while True:
            ids = encode_prompt(self.tokenizer, kept)
            if len(ids) <= room:
                return ids, dropped
            oldest = 1 if kept[0]["role"] == "system" else 0
            if oldest >= len(kept) - 1:
                raise ContextError(
                    f"The message has {len(ids):,} tokens; {room:,} fit this model beside the answer. "
                    "Shorten it, or ask for a shorter answer."
                )
            step = 2 if len(kept) - oldest > 2 else 1  # a question leaves with its answer
            del kept[oldest : oldest + step]
            dropped += step

    def _whole(self, messages: Said, limit: int, wanted: int) -> list[int]:
        """Ids of all that was said.

        Raises:
            ContextError: When it leaves fewer than ``wanted`` of ``limit`` tokens.
        """
        tokenizer = self.tokenizer
        ids = encode_start(tokenizer, messages) if isinstance(messages, str) else encode_prompt(tokenizer, messages)
        if len(ids) + wanted > limit:
            raise ContextError(
                f"This model's context has {limit:,} tokens; {len(ids):,} of the prompt and {wanted:,} for the answer "
                "do not fit. Shorten the prompt, or ask for fewer tokens."
            )
        return ids

    @torch.inference_mode()
    def _generate(self, model, ids, settings, stop, events, capture, decode) -> None:  # type: ignore[no-untyped-def]
        try:
            set_seed(settings.seed)
            inputs = torch.tensor([ids], device=self.base.device)
            sampling: dict[str, Any] = {"do_sample": False}
            if settings.temperature > 0:
                sampling = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
            limit = context_length(self.base) - len(ids)
            longest = max(1, min(settings.max_tokens, limit))
            model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=longest,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=end_tokens(self.tokenizer, self.base),
                stopping_criteria=StoppingCriteriaList([StopsWhenTold(stop)]),
                **sampling,
                **decode(model, len(ids) + longest, capture, GateStreamer(events, capture)),
            )
            events.put(None)
        except BaseException as error:  # handed to the reader, who raises it
            events.put(error)

    def _pieces(self, events, answer, settings, stop) -> Iterator[TokenEvent]:  # type: ignore[no-untyped-def]
        """Tokens with the text each adds; half characters wait for their other half."""
        ids: list[int] = []
        ends = set(end_tokens(self.tokenizer, self.base))
        begin = done = 0  # text of ids[begin:done] has been sent; it is the context of what follows
        while True:
            item = events.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                break
            token, gates = item
            if token in ends:
                answer.reason = "end"
                continue
            ids.append(token)
            sent = self.tokenizer.decode(ids[begin:done], skip_special_tokens=True)
            text = self.tokenizer.decode(ids[begin:], skip_special_tokens=True)
            piece = "" if text.endswith(BROKEN) else text[len(sent) :]
            if piece:
                begin, done = done, len(ids)
            yield TokenEvent(token, piece, gates)
        if not answer.reason:
            answer.reason = "stopped" if stop.is_set() else "length"
