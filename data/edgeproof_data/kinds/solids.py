"""The built-in data set: rendered solids, made once and kept in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgeproof_configs.files import explain_os_errors
from edgeproof_configs.progress import progress
from edgeproof_configs.registry import register
from edgeproof_configs.schema import DataConfig, PositiveInt
from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_data.sets import DataSource, ImageSet, SplitName
from edgeproof_data.solids.dataset import render_solids
from edgeproof_data.solids.spec import SPLITS, SolidsSpec


def cache_folder() -> Path:
    """Return where made data are kept: `$EDGEPROOF_CACHE`, else `~/.cache/edgeproof`."""
    place = os.environ.get("EDGEPROOF_CACHE")
    return Path(place).expanduser() if place else Path.home() / ".cache" / "edgeproof"


@register("data")
class Solids(DataSource):
    """Colour-shape pairs with captions; some pairs appear in `test` only."""

    class Config(DataConfig):
        """How many objects and views are rendered; the names are those of `SolidsSpec`."""

        kind: Literal["solids"] = "solids"
        image_size: Annotated[int, Field(ge=16, le=512)] = SolidsSpec.image_size
        objects: PositiveInt = SolidsSpec.objects
        views: PositiveInt = SolidsSpec.views
        val_objects: PositiveInt = SolidsSpec.val_objects
        val_views: PositiveInt = SolidsSpec.val_views
        test_objects: PositiveInt = SolidsSpec.test_objects
        test_views: PositiveInt = SolidsSpec.test_views
        tilt_degrees: Annotated[float, Field(ge=0, le=180)] = SolidsSpec.tilt_degrees
        seed: Annotated[int, Field(ge=0)] = SolidsSpec.seed

    def __init__(self, config: Solids.Config):
        super().__init__(config)
        self.spec = SolidsSpec(**config.model_dump(exclude={"kind"}))

    @property
    def root(self) -> Path:
        """The folder of the rendered images; one for each spec."""
        return cache_folder() / "solids" / self.spec.digest()[:16]

    @property
    def class_names(self) -> tuple[str, ...]:
        """All colour-shape pairs."""
        return self._images.class_names

    @property
    def unseen(self) -> tuple[str, ...]:
        """The held-out pairs."""
        return self._images.unseen

    @property
    def label_file(self) -> Path:
        """The list of all pairs."""
        return self.root / "labels.txt"

    def prepare(self) -> None:
        """Render the images where they are not there yet."""
        if not self.root.exists():
            self._render()
        self._images.prepare()

    def split(self, name: SplitName) -> ImageSet:
        """Return the images of a part."""
        return self._images.split(name)

    def captions(self, name: SplitName) -> list[list[str]] | None:
        """Return every caption that is true of each image."""
        return self._images.captions(name)

    def files(self) -> list[Path]:
        """Return the images and the tables beside them."""
        return self._images.files()

    @cached_property
    def _images(self) -> ImageFolder:
        return ImageFolder(
            ImageFolder.Config(
                root=str(self.root),
                val="val",
                classes="labels.txt",
                unseen="unseen.txt",
                captions="captions.csv",
            )
        )

    def _render(self) -> None:
        """Render into a temporary folder and rename it, so that the final one is always complete."""
        with explain_os_errors(self.root):
            self.root.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=self.root.parent, prefix=".rendering-"))
        try:
            with progress("render solids", sum(map(self.spec.count, SPLITS)), "images") as shown:
                render_solids(self.spec, temporary, lambda done, _total: shown.advance(done - shown.done))
            temporary.chmod(0o755)
            try:
                temporary.rename(self.root)
            except OSError:
                # Another process was faster; the same spec gives the same images.
                if not self.root.exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
