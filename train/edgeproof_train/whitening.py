"""Features whose directions count alike, less what tells apart things of the same class."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_train.frozen_feature import Reduction

WHERE = "teacher.whiten"


def whitened(
    reduction: Reduction, features_NF: Tensor, labels_N: Tensor, owners_N: Tensor, share: float
) -> Reduction:
    """Return principal axes that are scaled and turned to `y = (x - mean) R A^(-1/2)`.

    `A = (1 - w) S / tr S + w S_w / tr S_w`: S is the covariance of all features along the axes, S_w that of
    the objects, each the mean of its features, around the mean of their class. With w = 0 this is whitening
    by principal axes; S_w takes out what objects of one class differ in (within-class covariance
    normalisation, Hatch, Kajarekar and Stolcke, Interspeech 2006), and S keeps axes along which few vary.

    Args:
        reduction: principal axes of the features.
        features_NF: what they were fitted on.
        labels_N: class of each row; -1 where it has none, which S_w leaves out.
        owners_N: to which object each row belongs.
        share: w, at least 0 and below 1.

    Raises:
        UsageError: no class has two objects that differ.
    """
    along = reduction(features_NF).double()
    spread = along.T @ along
    mixed = (1 - share) * spread / spread.trace()
    if share:
        within = within_classes(along, labels_N, owners_N)
        mixed = mixed + share * within / within.trace()
    values, vectors = torch.linalg.eigh(mixed)
    inverse_root = (vectors * values.rsqrt()) @ vectors.T
    # Of the size of the features, as the plain axes are.
    inverse_root /= inverse_root.trace() / len(inverse_root)
    return Reduction(reduction.mean, (reduction.directions.double() @ inverse_root).float())


def within_classes(features_NF: Tensor, labels_N: Tensor, owners_N: Tensor) -> Tensor:
    """Return the scatter (F, F) of objects around the mean of their class.

    Raises:
        UsageError: it is zero.
    """
    labelled = labels_N >= 0
    labels_N, owners_N = labels_N[labelled], owners_N[labelled]
    _, object_of_row = owners_N.unique(return_inverse=True)
    objects = group_means(features_NF[labelled], object_of_row)
    label_of_object = labels_N.new_zeros(len(objects)).scatter(0, object_of_row, labels_N)
    _, class_of_object = label_of_object.unique(return_inverse=True)
    apart = objects - group_means(objects, class_of_object)[class_of_object]
    scatter = apart.T @ apart
    if not float(scatter.trace()) > 1e-12 * float(features_NF.square().sum()):
        raise UsageError(
            "no class of the training part has two objects, or images, that differ",
            where=WHERE,
            fix="set it to 0, which needs no classes",
        )
    return scatter


def group_means(rows_NF: Tensor, group_N: Tensor) -> Tensor:
    """Return the mean (G, F) of the rows of each group 0 to G - 1."""
    groups = int(group_N.max()) + 1 if len(group_N) else 0
    sums = rows_NF.new_zeros(groups, rows_NF.shape[1]).index_add(0, group_N, rows_NF)
    return sums / group_N.bincount(minlength=groups)[:, None]
