"""Looks over a quantised ONNX file before an engine is built of it: what will be slow, wrong or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import onnx

from edgeproof_deploy import qdq_layer_rules, qdq_scale_rules
from edgeproof_deploy.finding import Finding
from edgeproof_deploy.qdq_passes import Target
from edgeproof_deploy.quantised_graph import QuantisedGraph

Rule = Callable[[QuantisedGraph, Target], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    qdq_scale_rules.bad_scale,
    qdq_scale_rules.not_symmetric,
    qdq_scale_rules.integer_bias,
    qdq_scale_rules.unsigned_weights,
    qdq_scale_rules.per_tensor_weights,
    qdq_scale_rules.two_scales,
    qdq_scale_rules.rounded_output,
    qdq_layer_rules.batch_norm,
    qdq_layer_rules.padding,
    qdq_layer_rules.float_layer,
    qdq_layer_rules.float_output,
    qdq_layer_rules.kept_rectifier,
    qdq_layer_rules.residual_add,
    qdq_layer_rules.float_island,
    qdq_layer_rules.ends,
)
LEVELS = ("error", "warning", "info")


def lint(model: onnx.ModelProto, target: Target) -> list[Finding]:
    """Return what is to be said about a file, the gravest first.

    Args:
        model: as it would be given to the engine; stays as it is.
        target: the engine.
    """
    graph = QuantisedGraph(model)
    if not graph.is_quantised:
        said = "no value is quantised: there is nothing to look over"
        return [Finding("", "float_model", "info", said, "none", "none")]
    found = [finding for rule in RULES for finding in rule(graph, target)]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def worst(findings: Sequence[Finding]) -> str:
    """Return the gravest level, `info` if there is nothing."""
    return min((finding.level for finding in findings), key=LEVELS.index, default="info")
