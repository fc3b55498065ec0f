"""A head as ONNX nodes behind a model's `embedding`, for servers that run a graph and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeproof_configs.errors import UsageError
from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.gallery_head import ABSENT, GalleryHead
from edgeproof_deploy.runtime.head import ClassifierHead, Head, ZeroShotHead
from edgeproof_deploy.runtime.linear_head import LinearHead

SMALLEST_LENGTH = 1e-12


class HeadGraph:
    """Adds heads to a graph that has an output `embedding` (batch, D).

    Args:
        graph: that grows; of opset 18 or later, in which reductions take their axes as an input.
    """

    def __init__(self, graph: onnx.GraphProto):
        self.graph = graph
        self._count = 0
        self._unit = ""

    def logits(self, head: Head) -> str:
        """Add a head and return the name of its logits (batch, K).

        Raises:
            UsageError: the head is none of nodes, such as a cascade, which asks some images only.
        """
        if isinstance(head, ClassifierHead):
            if head.columns == tuple(range(head.classes)):
                return "embedding"
            return self.node("Gather", "embedding", self.constant(np.array(head.columns)), axis=1)
        if isinstance(head, ZeroShotHead | LinearHead):
            return self._linear(head)
        if isinstance(head, CacheHead):
            return self._cache(head)
        if isinstance(head, GalleryHead):
            return self._gallery(head)
        if isinstance(head, EnsembleHead):
            return self._ensemble(head)
        raise UsageError(
            f"a head of the form {head.form} cannot be built into an ONNX file",
            fix="serve the embeddings, and run the head where they arrive: edgeproof_deploy.runtime.head",
        )

    def _linear(self, head: ZeroShotHead | LinearHead) -> str:
        products = self.node("MatMul", self.unit(), self.constant((head.logit_scale * head.weight).T))
        bias = head.bias if isinstance(head, LinearHead) else None
        return products if bias is None else self.node("Add", products, self.constant(bias))

    def _cache(self, head: CacheHead) -> str:
        values = head.values.dense() if isinstance(head.values, ClassValues) else head.values
        products = self.node("MatMul", self.unit(), self.constant(head.beta * head.keys.T))
        near = self.node("Exp", self.node("Sub", products, self.constant(np.array(head.beta))))
        total = self.node("MatMul", near, self.constant(values))
        if head.base is not None:
            base = self._linear(head.base)
            if head.base_form == "probabilities":
                base = self.node("Softmax", base, axis=-1)
            total = self.node("Add", total, base)
        return self.node("Mul", total, self.constant(np.array(head.scale)))

    def _gallery(self, head: GalleryHead) -> str:
        """Return the largest product of each label's objects; of labels with few some are there twice."""
        counts = np.bincount(head.classes, minlength=len(head.labels))
        places = np.zeros((len(head.labels), int(counts.max())), np.int64)
        for row in np.flatnonzero(counts):
            places[row] = np.resize(np.flatnonzero(head.classes == row), places.shape[1])
        products = self.node("MatMul", self.unit(), self.constant(head.keys.T))
        of_labels = self.node("Gather", products, self.constant(places), axis=1)
        best = self.node("ReduceMax", of_labels, self.constant(np.array([2])), keepdims=0)
        if (counts == 0).any():
            there = self.constant((counts > 0).astype(np.float32))
            absent = self.constant(np.where(counts == 0, np.float32(ABSENT), np.float32(0)))
            best = self.node("Add", self.node("Mul", best, there), absent)
        return self.node("Mul", best, self.constant(np.array(head.scale)))

    def _ensemble(self, head: EnsembleHead) -> str:
        asked = [(member, weight) for member, weight in zip(head.members, head.weights) if weight]
        if head.of == "z_scores":
            parts = [
                self.node("Mul", self._standardised(self.logits(member)), self.constant(weight))
                for member, weight in asked
            ]
            total = self.node("Sum", *parts)
        else:
            first = self.constant(np.array([0]))
            logs = [
                self.node(
                    "Unsqueeze",
                    self.node(
                        "Add",
                        self.node("LogSoftmax", self.logits(member), axis=-1),
                        self.constant(np.log(weight)),
                    ),
                    first,
                )
                for member, weight in asked
            ]
            together = self.node("Concat", *logs, axis=0)
            total = self.node("ReduceLogSumExp", together, first, keepdims=0)
        return total if head.bias is None else self.node("Add", total, self.constant(head.bias))

    def _standardised(self, logits: str) -> str:
        """Return logits less their mean over the labels, divided by their standard deviation."""
        axes = self.constant(np.array([1]))
        away = self.node("Sub", logits, self.node("ReduceMean", logits, axes, keepdims=1))
        spread = self.node("Sqrt", self.node("ReduceMean", self.node("Mul", away, away), axes, keepdims=1))
        return self.node("Div", away, self.node("Max", spread, self.constant(np.array(SMALLEST_LENGTH))))

    def unit(self) -> str:
        """Return the name of the embeddings divided by their lengths, which are computed once."""
        if not self._unit:
            length = self.node("ReduceL2", "embedding", self.constant(np.array([1])), keepdims=1)
            longer = self.node("Max", length, self.constant(np.array(SMALLEST_LENGTH)))
            self._unit = self.node("Div", "embedding", longer)
        return self._unit

    def constant(self, values: np.ndarray | np.floating) -> str:
        """Add numbers, whole ones as int64 and others as float32, and return their name."""
        array = np.asarray(values)
        kept = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        name = self._name("constant")
        self.graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(kept).reshape(array.shape), name)
        )
        return name

    def node(self, kind: str, *inputs: str, **settings: Any) -> str:
        """Add a node and return the name of its output."""
        name = self._name(kind.lower())
        self.graph.node.append(helper.make_node(kind, inputs, [name], name=name, **settings))
        return name

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"head_{kind}_{self._count}"
