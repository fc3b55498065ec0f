"""What is rendered: the vocabulary, the held-out pairs, the number of objects and views."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from edgeproof_configs.files import digest_of

VERSION = 1
"""Raised whenever the same spec would give other bytes, so that a kept copy is not mistaken for a new one."""

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SHAPES = ("sphere", "cube", "cylinder", "cone", "torus", "pyramid", "capsule", "cross")
MATERIALS = ("matte", "glossy", "metal")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Pair:
    """A class: a colour and a shape."""

    colour: str
    shape: str

    @property
    def name(self) -> str:
        """The class name as it stands in `labels.txt`: `red cube`."""
        return f"{self.colour} {self.shape}"

    @property
    def folder(self) -> str:
        """The class folder: `red_cube`."""
        return f"{self.colour}_{self.shape}"

    @property
    def held_out(self) -> bool:
        """Whether the pair appears in `test` only.

        Each colour misses two shapes and each shape misses two colours, so every word is seen in six pairs.
        """
        colour, shape = COLOURS.index(self.colour), SHAPES.index(self.shape)
        return (shape - 3 * colour) % len(SHAPES) in (1, 4)


PAIRS = tuple(Pair(colour, shape) for colour in COLOURS for shape in SHAPES)
"""The 64 classes in label order."""


@dataclass(frozen=True)
class SolidsSpec:
    """Everything that the bytes of the data set depend on.

    An object is one solid with its own proportions, shade and material; a view is one photo of it, with its
    own pose, camera, light and surroundings. No object appears in two splits.

    Args:
        image_size: side of the square images in pixels.
        objects: train objects a seen pair.
        views: train views an object.
        val_objects: validation objects a seen pair.
        val_views: validation views an object.
        test_objects: test objects a pair, seen or held out.
        test_views: test views an object.
        tilt_degrees: how far an object may lean from upright; 180 is any pose at all.
        seed: of every random draw.

    Raises:
        ValueError: a count is below 1, or a size or an angle is out of range.
    """

    image_size: int = 48
    objects: int = 8
    views: int = 8
    val_objects: int = 1
    val_views: int = 4
    test_objects: int = 2
    test_views: int = 4
    tilt_degrees: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("objects", "views", "val_objects", "val_views", "test_objects", "test_views"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if not 16 <= self.image_size <= 512:
            raise ValueError(f"image_size must be 16 to 512 pixels, got {self.image_size}")
        if not 0 <= self.tilt_degrees <= 180:
            raise ValueError(f"tilt_degrees must be 0 to 180, got {self.tilt_degrees}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")

    def digest(self) -> str:
        """Return the sha256 of the spec and of the renderer's version, in hex."""
        return digest_of({"version": VERSION, **asdict(self)})

    def objects_in(self, split: str) -> range:
        """Return the object numbers of a split; they are unique within a class."""
        ends = (0, self.objects, self.objects + self.val_objects)
        first = ends[SPLITS.index(split)]
        return range(first, first + (self.objects, self.val_objects, self.test_objects)[SPLITS.index(split)])

    def views_in(self, split: str) -> int:
        """Return the number of views that each object of a split has."""
        return (self.views, self.val_views, self.test_views)[SPLITS.index(split)]

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        pairs = len(pairs_in(split))
        return pairs * len(self.objects_in(split)) * self.views_in(split)


def pairs_in(split: str) -> tuple[Pair, ...]:
    """Return the classes of a split: all in `test`, the seen ones elsewhere."""
    return PAIRS if split == "test" else tuple(pair for pair in PAIRS if not pair.held_out)
