"""A student whose layers compute with rounded numbers: for fine-tuning, for comparison, and for export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from edgeproof_compress.fold import fold_batch_norms
from edgeproof_compress.graph import source_of, trace, users_of
from edgeproof_compress.placement import ADDITIONS, Placement, Target, goes_with_its_input, place
from edgeproof_compress.quantizers import ActivationQuantizer, Backend, RoundedWeight, WeightQuantizer
from edgeproof_compress.signs import never_negative
from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import read_json, write_bytes
from edgeproof_configs.registry import component_class
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.student import CARD_FILE, WEIGHTS_FILE, Student
from edgeproof_train.weights import load_into, read_weights

KIND = "quantized"
RANGES_FILE = "ranges.safetensors"
QUANTIZER_PREFIX = "quantize_"
ORIGINAL = "parametrizations.weight.original"


@dataclass(frozen=True)
class QuantizationSpec:
    """What decides the shape of a quantised student.

    Attributes:
        layers: names of the layers that compute in integers, in order of execution.
        backend: whose simulated rounding it is.
        target: the engine whose placement is active.
        reduce_range: keep weights to 7 bits for ONNX Runtime.
    """

    layers: tuple[str, ...]
    backend: Backend = "modelopt"
    target: Target = "onnxruntime"
    reduce_range: bool = False


class QuantizedStudent(Student):
    """A student as a graph, with folded batch norms and quantisers where an engine has them.

    Args:
        base: the student in floating point; stays as it is.
        spec: which layers, whose rounding, which engine.

    Attributes:
        graph: images in, embeddings out.
        unfolded: names of batch norms that stay.
    """

    def __init__(self, base: Student, spec: QuantizationSpec):
        super().__init__()
        self.spec = spec
        self.embedding_dim, self.preprocess, self.classes = base.embedding_dim, base.preprocess, base.classes
        self.input_name = base.input_name
        self.base_card = base.card()
        self.graph = trace(base)
        self.unfolded = fold_batch_norms(self.graph)
        placement = place(self.graph, list(spec.layers))
        self._round_weights(placement)
        self._insert(placement)
        self.use(None)

    def _round_weights(self, placement: Placement) -> None:
        for node in placement.layers:
            layer = self.graph.get_submodule(str(node.target))
            weight = layer.weight
            assert isinstance(weight, Tensor)
            rounded = RoundedWeight(WeightQuantizer(self.spec.backend, weight, reduce=self.spec.reduce_range))
            parametrize.register_parametrization(layer, "weight", rounded)

    def _insert(self, placement: Placement) -> None:
        graph = self.graph
        names = {node: f"{QUANTIZER_PREFIX}{node.name}" for node in placement.values}
        for node, targets in placement.values.items():
            origin = placement.aliases.get(node, node)
            if origin is node:
                signless = never_negative(graph, node)
                graph.add_submodule(names[node], ActivationQuantizer(self.spec.backend, targets, signless))
        for node in placement.values:
            origin = node
            while origin in placement.aliases:
                origin = placement.aliases[origin]
            with graph.graph.inserting_after(node):
                rounded = graph.graph.call_module(names[origin], (node,))
            node.replace_all_uses_with(
                rounded, lambda user, end=rounded: user is not end and user.op != "output"
            )
        graph.recompile()

    def forward(self, image: Tensor) -> ModelOutputs:
        """Return the embedding (B, D), not normalised."""
        return self.outputs(self.graph(image))

    def pooled(self, image: Tensor) -> Tensor:
        """Return what the embedding head sees, (B, F); the embedding itself where there is no head."""
        heads = [node for node in self.graph.graph.nodes if is_head(node)]
        if not heads:
            return self.graph(image)
        found: list[Tensor] = []
        head = self.graph.get_submodule(str(heads[0].target))
        handle = head.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        try:
            self.graph(image)
        finally:
            handle.remove()
        return found[0]

    def module(self) -> nn.Module:
        """Return the backbone's part of the graph."""
        return self.graph.get_submodule("backbone")

    def expose(self, nodes: Sequence[str]) -> None:
        """Let feature losses look at blocks by the names that they have in `module`.

        A graph runs the layers of a block one by one and never the block; this adds a step that gives a
        block's value as it is, under the block's name.

        Raises:
            EdgeproofError: a block is not run, or its input is asked for.
        """
        for name in nodes:
            path = f"backbone.{name}"
            inside = [n for n in self.graph.graph.nodes if path in n.meta.get("nn_module_stack", {})]
            if any(str(node.target) == path for node in inside):
                continue
            if not inside:
                raise EdgeproofError(
                    f"the node '{name}' cannot be looked at in a quantised student",
                    where="losses",
                    fix="name a block that runs, or give compress.losses without it",
                )
            end = last_value(inside)
            self.graph.add_submodule(path, Block.of(dict(self.graph.named_modules()).get(path)))
            with self.graph.graph.inserting_after(end):
                exposed = self.graph.graph.call_module(path, (end,))
            end.replace_all_uses_with(exposed, lambda user, own=exposed: user is not own)
        self.graph.recompile()

    def quantizers(self) -> dict[str, ActivationQuantizer]:
        """Return the quantisers of activations by the name of the value in the graph."""
        return {
            name.removeprefix(QUANTIZER_PREFIX): module
            for name, module in self.graph.named_children()
            if isinstance(module, ActivationQuantizer)
        }

    def weight_quantizers(self) -> dict[str, WeightQuantizer]:
        """Return the quantisers of weights by layer."""
        found = {}
        for name in self.spec.layers:
            rounded: Any = self.graph.get_submodule(name)
            found[name] = rounded.parametrizations.weight[0].quantizer
        return found

    def use(self, target: Target | None) -> None:
        """Round as an engine does; None: compute in floating point."""
        for quantizer in self.quantizers().values():
            quantizer.use(target)
        for weight in self.weight_quantizers().values():
            weight.use(target)

    def use_only(self, layer: str) -> None:
        """Round one layer's weight and what it reads, and nothing else."""
        self.use(None)
        read = self.reads()[layer]
        self.weight_quantizers()[layer].use(self.spec.target)
        quantizer = self.quantizers()[read]
        quantizer.use(self.spec.target)

    def reads(self) -> dict[str, str]:
        """Return for each layer the quantised value that it reads."""
        nodes = {str(node.target): node for node in self.graph.graph.nodes if node.op == "call_module"}
        found = {}
        for layer in self.spec.layers:
            before = source_of(self.graph, nodes[layer].all_input_nodes[0])
            found[layer] = str(before.target).removeprefix(QUANTIZER_PREFIX)
        return found

    def layers_beside(self, value: str) -> list[str]:
        """Return the quantised layers because of which a value is quantised.

        They read it, or it comes from them; else it is added to what comes from them.
        """
        readers = [layer for layer, read in self.reads().items() if read == value]
        name = QUANTIZER_PREFIX + value
        rounded = [node for node in self.graph.graph.nodes if str(node.target) == name]
        found = readers + self._makers(rounded)
        if not found:
            users = [user for node in rounded for user in users_of(self.graph, node)]
            found = self._makers([user for user in users if user.target in ADDITIONS])
        return list(dict.fromkeys(found))

    def _makers(self, nodes: Sequence[fx.Node]) -> list[str]:
        queue, found = list(nodes), []
        while queue:
            for before in queue.pop().all_input_nodes:
                rounded = str(before.target).startswith(QUANTIZER_PREFIX)
                maker = source_of(self.graph, before.all_input_nodes[0] if rounded else before)
                if str(maker.target) in self.spec.layers:
                    found.append(str(maker.target))
                elif not rounded and goes_with_its_input(self.graph, maker):
                    queue.append(maker)
        return found

    def without(self, layers: Sequence[str]) -> QuantizedStudent:
        """Return the student with these layers in floating point and the other ranges as they are."""
        left = tuple(layer for layer in self.spec.layers if layer not in set(layers))
        base = of_shape(self.base_card, self.classes)
        made = QuantizedStudent(base, replace(self.spec, layers=left))
        made.load_tensors(self.tensors(), Path("the student"))
        ranges = self.ranges()
        kept = {f"activation.{name}" for name in made.quantizers()} | {f"weight.{name}" for name in left}
        made.load_ranges({name: ranges[name] for name in kept}, Path("the student"))
        made.use(self.spec.target)
        return made.eval()

    def parameters_of(self, *, head: bool) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the graph's parameters by name: those of the embedding head, or all others."""
        for name, parameter in self.graph.named_parameters():
            if name.startswith("head") == head:
                yield name.replace(ORIGINAL, "weight"), parameter

    def backbone_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the backbone's named parameters."""
        return self.parameters_of(head=False)

    def head_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the head's named parameters."""
        return self.parameters_of(head=True)

    def card(self) -> dict[str, Any]:
        """Return what `read` needs to make the same graph again."""
        ours = {"kind": KIND, "base": self.base_card, "quantization": asdict(self.spec)}
        return {"edgeproof": {**ours, "preprocess": self.preprocess.to_dict()}}

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> QuantizedStudent:
        """Return a student of the card's shape, not calibrated."""
        ours = card["edgeproof"]
        base = of_shape(ours["base"], tuple(ours.get("classes", ())))
        spec = {**ours["quantization"], "layers": tuple(ours["quantization"]["layers"])}
        return cls(base, QuantizationSpec(**spec))

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, in floating point, by the names that they have without quantisers."""
        return {
            name.replace(ORIGINAL, "weight"): value
            for name, value in self.graph.state_dict().items()
            if not name.endswith("_amax")
        }

    def load_tensors(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Take weights that `tensors` returned."""
        names = {name.replace(ORIGINAL, "weight"): name for name in self.graph.state_dict()}
        wanted = {names.get(name, name): value for name, value in tensors.items()}
        rest = {name: value for name, value in self.graph.state_dict().items() if name.endswith("_amax")}
        load_into(self.graph, wanted | rest, "quantised student", path)

    def ranges(self) -> dict[str, Tensor]:
        """Return every range: `activation.NAME` (), `weight.LAYER` (O,)."""
        found = {
            f"activation.{name}": torch.tensor(quantizer.amax)
            for name, quantizer in self.quantizers().items()
            if quantizer.amax is not None
        }
        return found | {f"weight.{name}": one.ranges for name, one in self.weight_quantizers().items()}

    def load_ranges(self, ranges: dict[str, Tensor], path: Path) -> None:
        """Take ranges that `ranges` returned.

        Raises:
            EdgeproofError: they are of another student, or one is no positive number.
        """
        wanted: dict[str, tuple[int, ...]] = {f"activation.{name}": () for name in self.quantizers()}
        wanted |= {f"weight.{name}": tuple(w.ranges.shape) for name, w in self.weight_quantizers().items()}
        differ = wanted.keys() ^ ranges.keys()
        differ |= {name for name in wanted.keys() & ranges.keys() if ranges[name].shape != wanted[name]}
        bad = [name for name, amax in ranges.items() if not (torch.isfinite(amax) & (amax > 0)).all()]
        if differ or bad:
            told = f"{bad[0]} is not positive" if bad else f"{len(differ)} names or shapes differ"
            raise EdgeproofError(
                f"the ranges do not fit the quantised student: {told}", where=path, fix="quantise it again"
            )
        for name, quantizer in self.quantizers().items():
            quantizer.amax = float(ranges[f"activation.{name}"])
        for name, weight in self.weight_quantizers().items():
            weight.set_ranges(ranges[f"weight.{name}"])

    def save(self, folder: Path) -> list[Path]:
        """Write the weights, the card and `ranges.safetensors`."""
        written = super().save(folder)
        write_bytes(folder / RANGES_FILE, save({k: v.contiguous() for k, v in self.ranges().items()}))
        return [*written, folder / RANGES_FILE]

    @classmethod
    def read(cls, folder: Path) -> QuantizedStudent:
        """Read what `save` wrote, on the CPU, in eval mode, rounding as its target does.

        Raises:
            EdgeproofError: a file is missing, cut, or of something else.
        """
        if not (folder / CARD_FILE).exists():
            raise EdgeproofError("there is no student here: config.json is missing", where=folder)
        card = read_json(folder / CARD_FILE)
        if card.get("edgeproof", {}).get("kind") != KIND:
            raise EdgeproofError("this is no quantised student", where=folder / CARD_FILE)
        student = cls.from_card(card)
        student.load_tensors(read_weights(folder / WEIGHTS_FILE, "student"), folder / WEIGHTS_FILE)
        student.load_ranges(read_weights(folder / RANGES_FILE, "ranges"), folder / RANGES_FILE)
        student.use(student.spec.target)
        return student.eval()


class Block(nn.Identity):
    """Stands for a block whose layers a graph runs one by one: gives its value on."""

    @classmethod
    def of(cls, module: nn.Module | None) -> Block:
        """Return a block that holds the parts and the tensors of what the graph has in its place."""
        block = cls()
        if module is not None:
            for child, part in module.named_children():
                block.add_module(child, part)
            for name, parameter in module.named_parameters(recurse=False):
                block.register_parameter(name, parameter)
            for name, buffer in module.named_buffers(recurse=False):
                block.register_buffer(name, buffer)
        return block


def of_shape(card: dict[str, Any], classes: tuple[str, ...]) -> Student:
    """Return a student of a card's shape with random weights."""
    kind: Any = component_class("student", card["edgeproof"]["kind"])
    student: Student = kind.from_card(card)
    student.classes = classes
    return student


def is_head(node: fx.Node) -> bool:
    """Whether a node runs a layer of the embedding head."""
    return node.op == "call_module" and str(node.target).split(".")[0] == "head"


def last_value(nodes: Sequence[fx.Node]) -> fx.Node:
    """Return the value with which a block ends, after the quantiser that follows it."""
    end = nodes[-1]
    users = list(end.users)
    if len(users) == 1 and str(users[0].target).startswith(QUANTIZER_PREFIX):
        return users[0]
    return end
