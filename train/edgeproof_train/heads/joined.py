"""Fitted heads, changed: more classes by their text, a bias on each score, another temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.head import Head, ZeroShotHead
from edgeproof_deploy.runtime.linear_head import LinearHead


def joined(head: Head, names: Sequence[str], text_KD: np.ndarray, logit_scale: float) -> Head:
    """Return a head of more classes: those that it lacks are scored by the cosine to their text.

    Args:
        head: of some of the names.
        names: all K labels, in the order of the new head.
        text_KD: unit text embeddings of all labels.
        logit_scale: factor on the cosines.

    Raises:
        ValueError: a label of the head is not among the names, or its form is not known here.
    """
    rows = places(head.labels, names)
    if isinstance(head, EnsembleHead):
        members = tuple(joined(member, names, text_KD, logit_scale) for member in head.members)
        return replace(head, labels=tuple(names), members=members)
    if isinstance(head, CacheHead):
        dense = head.values.dense() if isinstance(head.values, ClassValues) else head.values
        values = np.zeros((len(dense), len(names)), np.float32)
        values[:, rows] = dense
        factor = head.scale if head.base_form == "logits" else 1.0
        none = LinearHead(head.labels, np.zeros((len(head.labels), head.dim), np.float32))
        base = wider(head.base or none, rows, names, text_KD, logit_scale / factor)
        return replace(head, labels=tuple(names), values=values, base=base)
    return wider(linear(head), rows, names, text_KD, logit_scale)


def matched(head: Head, text_KD: np.ndarray, logit_scale: float, images_ND: np.ndarray) -> Head:
    """Return the head with logits as high and as wide as those of the text of its own classes.

    Mean and standard deviation over the classes, each the mean over some images, become those of the cosines
    to the text. No answer changes; but logits of heads that were fitted on other classes, or with other
    hyper-parameters, can then be compared with cosines in the same way. Of an ensemble it is done to members.

    Args:
        head: of K labels.
        text_KD: unit text embeddings of these labels.
        logit_scale: factor on the cosines.
        images_ND: unit rows to measure on.
    """
    if isinstance(head, EnsembleHead):
        members = tuple(matched(member, text_KD, logit_scale, images_ND) for member in head.members)
        return replace(head, members=members)
    wanted, found = logit_scale * (images_ND @ text_KD.T), head(images_ND).astype(np.float64)
    spread = float(found.std(axis=1).mean())
    factor = float(wanted.std(axis=1).mean()) / spread if spread else 1.0
    return shifted(sharpened(head, factor), np.full(len(text_KD), wanted.mean() - factor * found.mean()))


def shifted(head: Head, bias_K: np.ndarray) -> Head:
    """Return the head with a number added to the score of each class.

    A matrix takes it in its bias. A cache whose base counts by its probabilities gets one more key, a row of
    zeros, which is equally far from every image.

    Raises:
        ValueError: there is not a number for each class, or the head's form is not known here.
    """
    bias = np.asarray(bias_K, np.float64)
    if bias.shape != (len(head.labels),):
        raise ValueError(f"{len(head.labels)} classes and a bias of shape {bias.shape}")
    if not bias.any():
        return head
    if isinstance(head, EnsembleHead):
        own = 0 if head.bias is None else head.bias
        return replace(head, bias=own + bias)
    if isinstance(head, CacheHead):
        return shifted_cache(head, bias)
    found = linear(head)
    own = 0 if found.bias is None else found.bias
    return replace(found, bias=(own + bias).astype(np.float32))


def shifted_cache(head: CacheHead, bias_K: np.ndarray) -> CacheHead:
    """Return the cache with a number added to the score of each class."""
    if head.base_form == "logits":
        none = LinearHead(head.labels, np.zeros((len(head.labels), head.dim), np.float32))
        base = shifted(head.base or none, bias_K / head.scale)
        assert isinstance(base, LinearHead)
        return replace(head, base=base)
    dense = head.values.dense() if isinstance(head.values, ClassValues) else head.values
    row = bias_K / (head.scale * np.exp(-head.beta))
    keys = np.vstack([head.keys, np.zeros((1, head.dim), np.float32)])
    return replace(head, keys=keys, values=np.vstack([dense, row]).astype(np.float32))


def sharpened(head: Head, factor: float) -> Head:
    """Return the head with its logits multiplied, as by 1 / temperature; its answers stay.

    Raises:
        ValueError: the head's form has no such factor.
    """
    if isinstance(head, CacheHead):
        return replace(head, scale=head.scale * factor)
    found = linear(head)
    bias = None if found.bias is None else (found.bias * factor).astype(np.float32)
    return replace(found, logit_scale=found.logit_scale * factor, bias=bias)


def linear(head: Head) -> LinearHead:
    """Return a head of one matrix in its general form.

    Raises:
        ValueError: it is not one.
    """
    if isinstance(head, ZeroShotHead):
        return LinearHead(head.labels, head.weight, None, head.logit_scale)
    if not isinstance(head, LinearHead):
        raise ValueError(f"a {type(head).__name__} is no matrix")
    return head


def wider(
    head: LinearHead, rows: list[int], names: Sequence[str], text_KD: np.ndarray, logit_scale: float
) -> LinearHead:
    """Return a matrix of all names: the head's rows at some places, text at the others."""
    weight = np.asarray(text_KD, np.float64) * logit_scale
    weight[rows] = head.weight.astype(np.float64) * head.logit_scale
    bias = np.zeros(len(names), np.float32)
    if head.bias is not None:
        bias[rows] = head.bias
    return LinearHead(tuple(names), weight.astype(np.float32), bias)


def places(labels: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return where labels stand among names.

    Raises:
        ValueError: one is not among them.
    """
    found = {name: place for place, name in enumerate(names)}
    missing = [label for label in labels if label not in found]
    if missing:
        raise ValueError(f"label '{missing[0]}' is not among the {len(names)} names")
    return [found[label] for label in labels]
