"""What programs may leave out of a request, or write as null."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from studio.web.endpoint.requests import ChatRequest

SAID = {"model": "a", "messages": [{"role": "user", "content": "Hi", "name": None, "tool_calls": []}]}


def test_null_is_as_what_is_left_out_however_deep_it_stands() -> None:
    nothing = {"mute": None, "scale": None, "force": None}
    given = {
        **SAID,
        "stream_options": {"include_usage": None},
        "temperature": None,
        "experts": {**nothing, "layers": {"L1": nothing}},
    }
    plain = {**SAID, "stream_options": {}, "experts": {"layers": {"L1": {}}}}
    assert ChatRequest.model_validate(given) == ChatRequest.model_validate(plain)


@pytest.mark.parametrize("more", [{"stream_options": {"other": 1}}, {"experts": {"mutes": [1]}}])
def test_what_is_not_known_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ChatRequest.model_validate({**SAID, **more})
