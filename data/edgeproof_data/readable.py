"""A set without what cannot be read of it: images, or views of objects."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from edgeproof_data.check import Corrupt, usable
from edgeproof_data.objects import ObjectSet, single_images
from edgeproof_data.paths import counted
from edgeproof_data.sets import ImageSet


def readable(images: ImageSet) -> tuple[ImageSet, list[Corrupt]]:
    """Return what can be read, and path and reason of what is left out: files, and objects for lack of views.

    Args:
        images: what to read; of objects every view.
    """
    _, corrupt = usable(single_images(images))
    kept, lacking = without(images, {path for path, _ in corrupt})
    return kept, [*corrupt, *lacking]


def without(images: ImageSet, bad: Collection[str]) -> tuple[ImageSet, list[Corrupt]]:
    """Return the images, or the objects with their views, without some files.

    Args:
        images: a set.
        bad: paths of files in it.

    Returns:
        The rest; and path and reason of objects that are left out, because fewer views than are shown of each
        remain.
    """
    if not bad:
        return images, []
    if not isinstance(images, ObjectSet):
        good = [index for index, path in enumerate(images.paths) if path not in bad]
        return images.subset(np.array(good, np.int64)), []
    left = [tuple(file for file in files if file not in bad) for files in images.views]
    least = images.view_count
    whole = [index for index, files in enumerate(left) if len(files) >= least]
    lacking = [
        (
            images.paths[index],
            f"{counted(len(files), 'view')} of {len(images.views[index])} left of {least} shown",
        )
        for index, files in enumerate(left)
        if len(files) < least
    ]
    kept = ObjectSet(
        images.root,
        tuple(images.paths[index] for index in whole),
        images.labels[whole].astype(np.int64),
        images.class_names,
        tuple(left[index] for index in whole),
        least,
    )
    return kept, lacking
