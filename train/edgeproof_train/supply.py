"""Where training gets the teacher's outputs from: the cache, stored views, or the teacher itself."""

from __future__ import annotations

from typing import Literal

from edgeproof_configs.errors import UsageError

Supply = Literal["cache", "views", "live"]


def supply(
    view: Literal["exact", "assume_invariant"],
    changing: bool,
    live: bool,
    *,
    maps: bool = False,
    stored_views: bool = False,
) -> Supply:
    """Return where training gets the teacher's output for a training image from.

    A stored output belongs to the fixed view of its photo. It serves random views of it only under
    `assume_invariant`, an assumption that the recipe has to state. Feature maps are not stored.

    Args:
        view: of the recipe.
        changing: whether an image looks different each time: augmented, or mixed with another.
        live: whether the teacher can look at images.
        maps: whether a loss asks for the teacher's feature maps.
        stored_views: whether the recipe stores random views.

    Raises:
        UsageError: `exact`, random views and only stored outputs: none belongs to what the student sees; or
            feature maps of a teacher that has only stored outputs.
    """
    if maps and not live:
        raise UsageError(
            "feature maps need a teacher that can look at the images, and this one only has stored outputs",
            where="losses",
            fix="choose a live teacher, or losses on embeddings",
        )
    if not maps and (view == "assume_invariant" or not changing):
        return "cache"
    if stored_views and live and not maps:
        return "views"
    if live:
        return "live"
    raise UsageError(
        "stored embeddings belong to the fixed view of each photo, and this recipe trains on random views",
        where="teacher.view: exact",
        fix="set teacher.view: assume_invariant (pooled embeddings only), or remove train.augment",
    )
