"""The emulated device itself, and that the tests of the library pass on it: none builds on the CPU what belongs to a
model elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.emulated import NAME
from tests.hydralora.conftest import DEVICE

HERE = Path(__file__).parent
SHORT = ("test_routing.py", "test_helpers.py", "test_gguf.py")  # once red on a GPU; the others when tests are long
ALONE = """
import torch
from tests import emulated
emulated.install()
layer, x = torch.nn.Linear(3, 2), torch.randn(4, 3, requires_grad=True)
layer(x).square().sum().backward()
expected = [layer.weight.grad.clone(), x.grad.clone()]
there, y = torch.nn.Linear(3, 2), x.detach().to("emulated").requires_grad_()
there.load_state_dict(layer.state_dict())
there = there.to("emulated")
there(y).square().sum().backward()
assert there.weight.device == y.grad.device == torch.device("emulated", 0)
for found, wanted in zip((there.weight.grad, y.grad), expected, strict=True):
    torch.testing.assert_close(found.cpu(), wanted)
view = y.detach()[1:]
view.zero_()
assert y.detach()[1:].abs().sum().item() == 0.0 and y.detach()[0].abs().sum().item() > 0.0
for refused in (lambda: there(x), lambda: y + x.detach(), lambda: y.detach().numpy()):
    try:
        refused()
    except RuntimeError as error:
        assert "same device" in str(error) or "numpy" in str(error), error
    else:
        raise AssertionError("two devices met")
assert (y + torch.tensor(1.0)).device.type == "emulated"  # as on a GPU
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the device stays for as long as one lives."""
    environment = {**os.environ, "HYDRA_TEST_DEVICE": NAME, "PYTEST_ADDOPTS": "", "PYTHONPATH": str(HERE.parents[1])}
    environment.pop("PYTEST_XDIST_WORKER", None)
    line = [sys.executable, *words]
    return subprocess.run(line, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)


def test_it_computes_as_the_cpu_does_and_refuses_what_lies_elsewhere() -> None:
    done = run("-c", ALONE)
    assert done.returncode == 0, done.stderr[-2_000:]


FILES = sorted(path.name for path in HERE.glob("test_*.py") if path.name != Path(__file__).name)


@pytest.mark.skipif(DEVICE != "cpu", reason="they run on the device itself")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SHORT else pytest.mark.long, id=name) for name in FILES]
)
def test_what_a_file_tests_holds_on_a_device_that_is_not_the_cpu(name: str) -> None:
    done = run("-m", "pytest", "-n0", "-q", "--tb=short", "-p", "no:cacheprovider", f"tests/hydralora/{name}")
    assert done.returncode in (0, 5), done.stdout[-4_000:]  # 5: all of it is left out there


def test_this_process_knows_no_such_device() -> None:
    if DEVICE != NAME:
        with pytest.raises(RuntimeError):
            torch.zeros(1, device=NAME)
