"""Which layers can be pruned to 2:4, by name, and why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, fx, nn

from edgeproof_compress.fold import is_plain_layer
from edgeproof_compress.graph import module_of, trace
from edgeproof_configs.compress_schema import SparsityConfig
from edgeproof_configs.errors import UsageError, did_you_mean
from edgeproof_train.student import Student

OUTPUT_MULTIPLE, INPUT_MULTIPLE = 8, 16
"""What sparse tensor cores ask of a layer's channels, the rule of ASP and of modelopt."""
WORDS = ("stem", "head")
SHOWN = 12
WHERE = "compress.sparsity"


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer of a student.

    Attributes:
        name: path of the module.
        kind: `Conv2d` or `Linear`.
        shape: of its weight.
        parameters: how many weights it has, without the bias.
        reason: why it stays dense; empty if it is pruned.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    reason: str = ""

    @property
    def eligible(self) -> bool:
        """Whether it is pruned."""
        return not self.reason

    def row(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {**asdict(self), "shape": list(self.shape), "eligible": self.eligible}


def eligibility(student: Student, config: SparsityConfig) -> list[Layer]:
    """Return every convolution and linear layer of a student, with what becomes of it.

    Raises:
        UsageError: a pattern matches no layer, or nothing can be pruned.
    """
    modules = {name: module for name, module in student.named_modules() if is_layer(module)}
    ends = ends_of(student) if {*config.include, *config.exclude} & set(WORDS) else {}
    included = matching(config.include, list(modules), ends, f"{WHERE}.include")
    excluded = matching(config.exclude, list(modules), ends, f"{WHERE}.exclude")
    layers: list[Layer] = []
    for name, module in modules.items():
        reason = why_not(module)
        if any(name.startswith(f"{part}.") or name == part for part in student.training_only):
            reason = "not exported"
        elif config.include and name not in included:
            reason = "not included"
        elif name in excluded:
            reason = "excluded by name"
        kind = "Linear" if isinstance(module, nn.Linear) else "Conv2d"
        weight = student.get_parameter(f"{name}.weight")
        layers.append(Layer(name, kind, tuple(weight.shape), weight.numel(), reason))
    refuse_what_cannot_be_pruned(
        layers, config, {name: why_not(module) for name, module in modules.items()}, ends
    )
    return layers


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or linear layer of any sort."""
    return isinstance(module, nn.Conv2d | nn.Linear)


def why_not(module: nn.Module) -> str:
    """Return why a layer cannot be pruned to 2:4; empty if it can."""
    if not is_plain_layer(module):
        return "its weight is changed before it is used"
    outputs, inputs = weight_of(module).shape[:2]
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    if groups > 1:
        depthwise = inputs == 1
        return "depthwise" if depthwise else f"in {groups} groups"
    found: list[str] = []
    if inputs % INPUT_MULTIPLE:
        found.append(f"{inputs} input channels, not a multiple of {INPUT_MULTIPLE}")
    if outputs % OUTPUT_MULTIPLE:
        found.append(f"{outputs} output channels, not a multiple of {OUTPUT_MULTIPLE}")
    return "; ".join(found)


def weight_of(module: Any) -> Tensor:
    """Return the weight of a convolution or linear layer."""
    return module.weight


def matching(
    patterns: Sequence[str], names: Sequence[str], ends: dict[str, set[str]], where: str
) -> set[str]:
    """Return the layers that any of the patterns names.

    Args:
        patterns: `*`, `?` and `[...]` as in file names, or `stem` and `head`.
        names: of all layers.
        ends: the layers that the two words stand for.
        where: key of the recipe, for the error.

    Raises:
        UsageError: a pattern matches none.
    """
    found: set[str] = set()
    for pattern in patterns:
        hits = ends[pattern] if pattern in ends else {name for name in names if fnmatchcase(name, pattern)}
        if not hits:
            raise UsageError(
                f"no layer matches '{pattern}'.{did_you_mean(pattern, [*names, *WORDS])}",
                where=where,
                fix=f"name layers by these, with * and ?: {some(names)}, or by the words stem, head",
            )
        found |= hits
    return found


def ends_of(student: Student) -> dict[str, set[str]]:
    """Return the layers that see the image (`stem`), and the one that gives the embedding (`head`).

    Raises:
        UsageError: the student cannot be shown as a graph.
    """
    graph = trace(student)
    called = [node for node in graph.graph.nodes if is_layer_call(graph, node)]
    stem: set[str] = set()
    queue = [node for node in graph.graph.nodes if node.op == "placeholder"]
    while queue:
        for user in queue.pop().users:
            if is_layer_call(graph, user):
                stem.add(str(user.target))
            else:
                queue.append(user)
    return {"stem": stem, "head": {str(called[-1].target)} if called else set()}


def is_layer_call(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node calls a convolution or linear layer."""
    module = module_of(graph, node)
    return module is not None and is_layer(module)


def refuse_what_cannot_be_pruned(
    layers: Sequence[Layer],
    config: SparsityConfig,
    reasons: dict[str, str],
    ends: dict[str, set[str]],
) -> None:
    """Refuse a pattern whose layers all stay dense by their shape, and a student of which nothing is pruned.

    Raises:
        UsageError: with the reasons.
    """
    names = [layer.name for layer in layers]
    for pattern in config.include:
        hits = matching([pattern], names, ends, f"{WHERE}.include")
        if all(reasons[name] for name in hits):
            raise UsageError(
                f"no layer that '{pattern}' names can be 2:4: "
                + some([f"{name} ({reasons[name]})" for name in names if name in hits], 3),
                where=f"{WHERE}.include",
                fix="name layers of a multiple of 16 input and 8 output channels, or remove the pattern",
            )
    if not any(layer.eligible for layer in layers):
        raise UsageError(
            "nothing can be pruned: " + some([f"{layer.name} ({layer.reason})" for layer in layers], 3),
            where=WHERE,
            fix="include other layers, choose a wider student, or remove compress.sparsity",
        )


def some(words: Sequence[str], shown: int = SHOWN) -> str:
    """Return the first few words, and how many more there are."""
    more = f", and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more
