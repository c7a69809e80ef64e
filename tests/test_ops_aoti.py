"""The ops in a model that torch compiles ahead of time for a C++ program, without Python."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch

from fxfast import ops
from fxfast.graph import Linear, ModelGraph

HEADERS = Path(__file__).resolve().parent.parent / "build/python-headers/usr/include"


GRAPH = ModelGraph(Linear(np.array([0.5, 0.25, -0.125], np.float32)), 48_000)


class Streaming(torch.nn.Module):
    """A convolution, then a plan that goes on from its state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("plan", ops.plan_tensor(GRAPH))
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(torch.randn(1, 1, 3, generator=generator))

    def forward(self, state: torch.Tensor, x_bct: torch.Tensor) -> torch.Tensor:
        h_bct = torch.ops.fxfast.conv1d(x_bct, self.weight, None, 2)
        y_bct: torch.Tensor = torch.ops.fxfast.run(self.plan, state, h_bct)
        return y_bct


@pytest.mark.slow
def test_a_package_compiled_ahead_of_time_gives_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++, which torch's inductor calls, is not installed")
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        if not (HEADERS / include.name / "Python.h").exists():
            pytest.skip("Python.h (python3-dev), which torch's inductor needs, is not installed")
        monkeypatch.setenv("CPLUS_INCLUDE_PATH", f"{HEADERS / include.name}:{HEADERS}")
    ops.load_library()
    model, x_bct = Streaming().eval(), torch.randn(1, 1, 68)
    state = ops.settled_state(GRAPH).repeat(1, 1, 1)
    expected_state = state.clone()
    with torch.no_grad():
        exported = torch.export.export(model, (state, x_bct))
        # Without optimisation the wrapper compiles in half the time; the ops are the same.
        package = torch._inductor.aoti_compile_and_package(
            exported,
            package_path=str(tmp_path / "model.pt2"),
            inductor_configs={
                "aot_inductor.compile_wrapper_opt_level": "O0",
                "cpp_cache_precompile_headers": False,
            },
        )
        compiled = torch._inductor.aoti_load_package(package)
        for _ in range(2):
            x_bct = torch.randn(1, 1, 68)
            assert torch.equal(compiled(state, x_bct), model(expected_state, x_bct))
            assert torch.equal(state, expected_state)
