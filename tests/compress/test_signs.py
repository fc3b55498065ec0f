from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as f
from tests.compress.small_students import make_student
from torch import Tensor, fx

from edgeproof_compress.fold import fold_batch_norms
from edgeproof_compress.graph import trace
from edgeproof_compress.signs import never_negative

CASES: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "the image": (lambda x: x * 1, False),
    "relu": (lambda x: torch.relu(x), True),
    "method": (lambda x: x.relu(), True),
    "relu6": (lambda x: f.relu6(x), True),
    "softmax": (lambda x: f.softmax(x, dim=-1), True),
    "gelu": (lambda x: f.gelu(x), False),
    "hardswish": (lambda x: f.hardswish(x), False),
    "pooled relu": (lambda x: f.adaptive_avg_pool2d(f.relu(x), 1).flatten(1), True),
    "mean of relu": (lambda x: f.relu(x).mean((2, 3)), True),
    "relu plus relu": (lambda x: f.relu(x) + f.relu(-x), True),
    "relu plus image": (lambda x: f.relu(x) + x, False),
    "relu minus relu": (lambda x: f.relu(x) - f.relu(-x), False),
    "relu less one": (lambda x: f.relu(x) + -1, False),
    "added times minus two": (lambda x: torch.add(f.relu(x), f.relu(-x), alpha=-2), False),
    "relu times minus one": (lambda x: f.relu(x) * -1, False),
    "gated relu": (lambda x: f.relu(x) * torch.sigmoid(x), True),
    "gated image": (lambda x: x * torch.sigmoid(x), False),
    "joined": (lambda x: torch.cat([f.relu(x), torch.sigmoid(x)], 1), True),
    "joined with the image": (lambda x: torch.cat([f.relu(x), x], 1), False),
    "part of relu": (lambda x: f.relu(x)[:, 0], True),
    "padded relu": (lambda x: f.pad(f.relu(x), (1, 1)), True),
    "padded with minus one": (lambda x: f.pad(f.relu(x), (1, 1), value=-1.0), False),
    "leaky": (lambda x: f.leaky_relu(x), False),
}


@pytest.mark.parametrize("name", CASES)
def test_never_negative__of_an_operation(name: str) -> None:
    function, expected = CASES[name]
    graph = fx.symbolic_trace(function)
    output = next(node for node in graph.graph.nodes if node.op == "output")
    assert never_negative(graph, output.all_input_nodes[0]) == expected
    found = graph(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert not expected or found.min() >= 0


@pytest.mark.parametrize("model", ["cifar_resnet8", "mobilenetv2_035", "test_vit"])
def test_never_negative__holds_for_what_comes(model: str) -> None:
    graph = trace(make_student(model))
    fold_batch_norms(graph)
    promised = {node for node in graph.graph.nodes if never_negative(graph, node)}
    lowest: dict[fx.Node, float] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Tensor:
            found = super().run_node(n)
            if isinstance(found, Tensor):
                lowest[n] = float(found.detach().min())
            return found

    torch.manual_seed(0)
    Watch(graph).run(3 * torch.randn(2, 3, 32, 32))
    assert all(lowest[node] >= 0 for node in promised)
    if model != "test_vit":
        ever = [node for node in lowest if lowest[node] >= 0 and node.op == "call_module"]
        assert len(promised.intersection(ever)) >= len(ever) - 1, "almost nothing is missed"
