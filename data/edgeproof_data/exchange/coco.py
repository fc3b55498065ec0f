"""COCO's json as rows: an image with the category, or the captions, that its annotations give it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of


def coco_rows(source: Path) -> Iterator[dict[str, Any]]:
    """Yield `path`, `label` (None without a category) and `caption` (a list) of each image.

    Raises:
        DataError: it is no such file, an annotation names what is not there, or an image is of several
            categories.
    """
    try:
        told = json.loads(source.read_bytes())
        images = {str(one["id"]): str(one["file_name"]) for one in told["images"]}
        categories = {str(one["id"]): str(one["name"]) for one in told.get("categories", [])}
        notes = [_note(one) for one in told["annotations"]]
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=source) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"this is not COCO: {type(error).__name__} {str(error)[:60]}",
            where=source,
            fix="expected images (id, file_name), annotations (image_id, category_id), categories (id, name)",
        ) from error
    labels: dict[str, set[str]] = {}
    captions: dict[str, list[str]] = {}
    for image, category, caption in notes:
        if image not in images or (category is not None and category not in categories):
            raise DataError(
                f"an annotation of image {image}, category {category}: not in this file", where=source
            )
        if category is not None:
            labels.setdefault(image, set()).add(category)
        if caption is not None:
            captions.setdefault(image, []).append(str(caption))
    several = [images[image] for image, found in labels.items() if len(found) > 1]
    if several:
        raise DataError(
            f"{counted(len(several), 'image')} of several categories: {some_of(several)}",
            where=source,
            fix="an image has one class here: crop its objects first, or choose one",
        )
    for image, path in images.items():
        label = next((categories[one] for one in labels.get(image, ())), None)
        yield {"path": path, "label": label, "caption": captions.get(image, []), "part": None}


def _note(annotation: dict[str, Any]) -> tuple[str, str | None, str | None]:
    """Return image, category and caption of an annotation."""
    category, caption = annotation.get("category_id"), annotation.get("caption")
    return str(annotation["image_id"]), None if category is None else str(category), caption
