"""The built-in solids as objects with several views each; no download."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from edgeproof_configs.registry import register
from edgeproof_configs.schema import DataConfig, PositiveInt
from edgeproof_data.kinds.solids import Solids
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import SPLITS, DataSource, SplitName
from edgeproof_data.solids.spec import SolidsSpec

OF_VIEW = re.compile(r"^(.+)_v\d+\.png$")


@register("data")
class SolidViews(DataSource):
    """Rendered solids with several views each; classes are colour-shape pairs, some in `test` only.

    A class is a pair, and not a shape: a teacher of captions tells colours as well as shapes apart, and would
    be called wrong wherever a red cube finds a red ball before a blue cube. What is unseen is then a new pair
    of a known colour and a known shape. The objects of `test` search each other.
    """

    of_objects: ClassVar[bool] = True

    class Config(DataConfig):
        """How many objects are rendered, and how many views of each.

        Attributes:
            image_size: side of a view in pixels.
            objects: training objects a seen pair.
            val_objects: validation objects a seen pair; a search among them needs two.
            test_objects: test objects a pair, seen or not; a search among them needs two.
            rendered_views: views that each object has, each with its own pose, camera, light and ground.
            views: how many of them evaluation shows; all, if not given.
            tilt_degrees: how far an object may lean from upright.
            seed: of every random draw.
        """

        kind: Literal["solid_views"] = "solid_views"
        image_size: Annotated[int, Field(ge=16, le=512)] = SolidsSpec.image_size
        objects: PositiveInt = 3
        val_objects: Annotated[int, Field(ge=2)] = 2
        test_objects: Annotated[int, Field(ge=2)] = 3
        rendered_views: PositiveInt = 8
        views: PositiveInt | None = None
        tilt_degrees: Annotated[float, Field(ge=0, le=180)] = SolidsSpec.tilt_degrees
        seed: Annotated[int, Field(ge=0)] = SolidsSpec.seed

        @model_validator(mode="after")
        def _has_views(self) -> SolidViews.Config:
            if self.views is not None and self.views > self.rendered_views:
                raise ValueError(f"views: {self.views} of {self.rendered_views} rendered_views")
            return self

    def __init__(self, config: SolidViews.Config):
        super().__init__(config)
        self.settings = config
        self._rendered = Solids(
            Solids.Config(
                image_size=config.image_size,
                objects=config.objects,
                views=config.rendered_views,
                val_objects=config.val_objects,
                val_views=config.rendered_views,
                test_objects=config.test_objects,
                test_views=config.rendered_views,
                tilt_degrees=config.tilt_degrees,
                seed=config.seed,
            )
        )

    @property
    def root(self) -> Path:
        """The folder of the rendered views; one for each way to render them."""
        return self._rendered.root

    @property
    def class_names(self) -> tuple[str, ...]:
        """All colour-shape pairs."""
        return self._rendered.class_names

    @property
    def unseen(self) -> tuple[str, ...]:
        """The held-out pairs."""
        return self._rendered.unseen

    @property
    def label_file(self) -> Path:
        """The list of all pairs."""
        return self._rendered.label_file

    def prepare(self) -> None:
        """Render the views where they are not there yet."""
        self._rendered.prepare()

    def split(self, name: SplitName) -> ObjectSet:
        """Return the objects of a part."""
        return self._objects[name]

    def captions(self, name: SplitName) -> list[list[str]] | None:
        """Return every caption that is true of each object, and so of each of its views."""
        said = self._rendered.captions(name)
        if said is None:
            return None
        by_view = dict(zip(self._rendered.split(name).paths, said, strict=True))
        return [by_view[views[0]] for views in self.split(name).views]

    def files(self) -> list[Path]:
        """Return the views and the tables beside them."""
        return self._rendered.files()

    @cached_property
    def _objects(self) -> dict[SplitName, ObjectSet]:
        return {name: self._grouped(name) for name in SPLITS}

    def _grouped(self, name: SplitName) -> ObjectSet:
        """Return the images of a part as objects: the files that differ in the number of the view alone."""
        images = self._rendered.split(name)
        views: dict[str, list[str]] = {}
        labels: dict[str, int] = {}
        for path, label in zip(images.paths, images.labels.tolist(), strict=True):
            found = OF_VIEW.match(path)
            if found is None:
                raise ValueError(f"expected a name that ends in the number of a view, got {path}")
            views.setdefault(found[1], []).append(path)
            labels[found[1]] = label
        return ObjectSet(
            images.root,
            tuple(views),
            np.array(list(labels.values()), np.int64),
            images.class_names,
            tuple(map(tuple, views.values())),
            self.settings.views,
        )
