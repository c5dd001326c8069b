"""The GGUF files of one export: the base that an adapter lies over, or the merged model, each checked by llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel

from hydralora.bases.load import QUANTISED, load_base
from hydralora.llamacpp.check import Places, Yardstick, can_check, likeliest
from hydralora.llamacpp.files import write_lora, write_model
from hydralora.llamacpp.modelfile import modelfile
from hydralora.results import LlamaCheck

BASE, ADAPTER, MODEL, MODELFILE = "base.gguf", "adapter.gguf", "model.gguf", "Modelfile"
Written = tuple[list[str], LlamaCheck | None]


class GgufExport:
    """Writes below the folder of an export.

    Args:
        base: The base in memory, without an adapter.
        named: The base by its name or folder, from which it is loaded again where it is quantised in memory.
        kind: ``f16`` or ``q8_0``, of base and merged model; adapters are float32.
        places: Where the next tokens are compared.
        tell: Reports what is being done, or stops.
    """

    def __init__(
        self,
        base: Any,
        tokenizer: Any,
        out: Path,
        kind: str,
        *,
        named: str,
        dtype: str,
        title: str,
        places: Places,
        tell: Callable[[str], None],
    ) -> None:
        self.tokenizer, self.out, self.kind, self.title = tokenizer, out, kind, title
        self.places, self.tell = places, tell
        tell("Writing the base as GGUF")
        whole = load_base(named)[0].eval() if dtype in QUANTISED else base
        write_model(whole, tokenizer, out / BASE, kind, name=title)
        self.yardstick: Yardstick | None = None
        if can_check():
            tell("Checking the base by llama.cpp")
            self.yardstick = Yardstick(whole, tokenizer, places, out / BASE)

    def add_lora(self, model: PeftModel, folder: Path) -> Written:
        """A plain LoRA beside its safetensors, with a Modelfile that lays it over the base."""
        self.tell("Writing the adapter as GGUF")
        file = folder / ADAPTER
        write_lora(model, file, name=f"{self.title}, adapter")
        (folder / MODELFILE).write_text(modelfile(self.tokenizer, f"../{BASE}", f"./{ADAPTER}"), "utf-8")
        check = self._check(model, self.out / BASE, file)
        return [BASE, *(f"{folder.name}/{name}" for name in (ADAPTER, MODELFILE))], check

    def put_model(self, model: Any, folder: Path) -> Written:
        """A whole model; the base has done its service as a yardstick and goes."""
        self.tell("Writing the model as GGUF")
        file = folder / MODEL
        folder.mkdir(exist_ok=True)
        write_model(model, self.tokenizer, file, self.kind, name=self.title)
        (folder / MODELFILE).write_text(modelfile(self.tokenizer, f"./{MODEL}"), "utf-8")
        check = self._check(model, file, None)
        (self.out / BASE).unlink()
        return [f"{folder.name}/{name}" for name in (MODEL, MODELFILE)], check

    def _check(self, model: Any, file: Path, adapter: Path | None) -> LlamaCheck | None:
        if self.yardstick is None:
            return None
        self.tell("Checking it by llama.cpp")
        return self.yardstick.check(likeliest(model, self.places), file, adapter)
