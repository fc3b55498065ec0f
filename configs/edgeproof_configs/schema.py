"""The recipe: one frozen, validated tree of settings.

The configs of components (data, teacher, student, losses, head) stand beside the components; what every
recipe has in common stands here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from edgeproof_configs.component_configs import (
    Components,
    Config,
    DataConfig,
    Fraction,
    HeadConfig,
    LossConfig,
    Parts,
    PositiveFloat,
    PositiveInt,
    StudentConfig,
    TeacherConfig,
    check_shares,
)
from edgeproof_configs.compress_schema import CompressConfig
from edgeproof_configs.deploy_schema import (
    BenchConfig,
    DeployConfig,
    GatesConfig,
    LatencyGate,
    TensorRTConfig,
)

__all__ = [
    "SLOTS",
    "AugmentConfig",
    "BaselineConfig",
    "BenchConfig",
    "Components",
    "CompressConfig",
    "Config",
    "CurateConfig",
    "DataConfig",
    "DeployConfig",
    "Fraction",
    "GatesConfig",
    "HeadConfig",
    "LatencyGate",
    "LossConfig",
    "MixConfig",
    "Parts",
    "Plain",
    "PositiveFloat",
    "PositiveInt",
    "Recipe",
    "SamplerConfig",
    "StudentConfig",
    "TeacherConfig",
    "TensorRTConfig",
    "TrainConfig",
    "check_shares",
]


class AugmentConfig(Config):
    """Random changes of a training image, applied in this order by torchvision v2 transforms.

    `policy` is a published set of strong changes with torchvision's settings. `policy_magnitude` is 0 to 30
    for rand_augment (9 unless told) and the severity 1 to 10 for aug_mix (3); `policy_operations` is how many
    changes it makes (2). `cutout` is the side of a square that is covered, as a part of the image's side.
    `shift_pixels` cuts anywhere from a photo resized to be larger by this on each side. `pad_pixels`
    does so from the image in a frame of this width and of the mean colour, which normalises to 0.
    """

    random_resized_crop: tuple[Fraction, Fraction] | None = None
    shift_pixels: Annotated[int, Field(ge=0)] = 0
    pad_pixels: Annotated[int, Field(ge=0)] = 0
    flip: Fraction = 0.0
    policy: Literal["auto_augment", "rand_augment", "trivial_augment", "aug_mix"] | None = None
    policy_magnitude: Annotated[int, Field(ge=0, le=30)] | None = None
    policy_operations: PositiveInt | None = None
    color_jitter: Fraction = 0.0
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    erase: Fraction = 0.0
    cutout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _crop_is_a_range(self) -> AugmentConfig:
        crop = self.random_resized_crop
        if crop and not 0 < crop[0] <= crop[1]:
            raise ValueError(f"random_resized_crop: expected 0 < smallest <= largest area, got {crop}")
        if crop and self.shift_pixels:
            raise ValueError("shift_pixels has no effect beside random_resized_crop: set one of them")
        if self.pad_pixels and (crop or self.shift_pixels):
            other = "random_resized_crop" if crop else "shift_pixels"
            raise ValueError(f"pad_pixels and {other} both say where the image is cut: set one of them")
        return self

    @model_validator(mode="after")
    def _policy_has_these_settings(self) -> AugmentConfig:
        if self.policy_operations is not None and self.policy != "rand_augment":
            raise ValueError("policy_operations has no effect without policy: rand_augment")
        if self.policy_magnitude is not None and self.policy not in ("rand_augment", "aug_mix"):
            raise ValueError("policy_magnitude has no effect without policy: rand_augment or aug_mix")
        if self.policy == "aug_mix" and self.policy_magnitude not in (None, *range(1, 11)):
            raise ValueError(f"policy_magnitude: aug_mix knows 1 to 10, got {self.policy_magnitude}")
        return self

    @property
    def active(self) -> bool:
        """Whether any change is made at all."""
        return self != AugmentConfig()


class MixConfig(Config):
    """Mixing each image of a batch with another one: mixup (arXiv:1710.09412), CutMix (arXiv:1905.04899).

    `mixup` and `cutmix` are the alpha of Beta(alpha, alpha), from which the share of the own image is drawn
    once a batch; 0 is off, and of two that are on each batch draws one. `probability`: of mixing a batch.
    """

    mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    cutmix: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _mixes(self) -> MixConfig:
        if not self.mixup and not self.cutmix:
            raise ValueError("mixup and cutmix are both 0: nothing would be mixed; set one, or remove mix")
        return self


class SamplerConfig(Config):
    """What a step shows of objects with several views.

    `views` of each object are drawn at random, anew each time it is shown. With `classes` P and `objects` K a
    step shows K objects of each of P classes, so that a loss on triplets finds positives and negatives;
    without them objects come in random order. `visits` shows each object of a step so many times, with other
    views, which makes positives of one object. `photo_steps` is how many steps on the data's unlabelled
    photos follow each step on objects, 1 unless told; such a step has as many photos as the other has views.
    """

    views: PositiveInt
    classes: Annotated[int, Field(ge=2)] | None = None
    objects: PositiveInt | None = None
    visits: PositiveInt = 1
    photo_steps: PositiveInt | None = None

    @model_validator(mode="after")
    def _classes_have_objects(self) -> SamplerConfig:
        if (self.classes is None) != (self.objects is None):
            raise ValueError("classes and objects go together: P classes with K objects of each")
        return self

    @property
    def balanced(self) -> bool:
        """Whether a step has equally many objects of each of its classes."""
        return self.classes is not None

    def shown(self, batch_size: int) -> int:
        """Return how many different objects a step of `batch_size` visits shows."""
        return batch_size // self.visits


class CurateConfig(Config):
    """Choosing, among images without labels, those that show what the words of the head say.

    In every part without labels an image stays where the teacher finds a word of the head that fits it best;
    then images that are broken, small, there twice or alike are taken out, so that none is both trained and
    tested on, and training images of the words are evened out. Words choose images; they do not label them.

    Attributes:
        floor: least cosine of an image with its word; what is a good one depends on the teacher.
        margin: by how much that must be more than with any other word.
        vocabulary: file of other words, one a line or csv `label,prompt`: an image that one of them fits
            better is left out.
        vocabulary_embeddings: .npy (K, D) with a row for each of these, in place of the teacher's text tower.
        alike: cosine from which two images count as the same, of which one stays; null: all stay.
        near: whether of images that look the same one stays.
        smallest_side: pixels that the shorter side of an image must have.
        per_word: most training images of a word, the best fitting ones.
        balance: no word has more than so many times the training images of the one with fewest.
    """

    floor: Annotated[float, Field(ge=-1, le=1)] = 0.2
    margin: Annotated[float, Field(ge=0, lt=2)] = 0.0
    vocabulary: str | None = None
    vocabulary_embeddings: str | None = None
    alike: Annotated[float, Field(gt=0, le=1)] | None = None
    near: bool = True
    smallest_side: PositiveInt = 16
    per_word: PositiveInt | None = None
    balance: Annotated[float, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _embeddings_are_of_words(self) -> CurateConfig:
        if self.vocabulary_embeddings is not None and self.vocabulary is None:
            raise ValueError("vocabulary_embeddings: of which words? Set vocabulary")
        return self


class TrainConfig(Config):
    """The training loop.

    `batch_size` is that of one process: an optimizer step sees `batch_size * accumulate` images of each. `lr`
    is that of the step whatever its size; it is not scaled, so who changes the number of processes keeps
    their product with `batch_size`, or sets another `lr`. Losses, and batch norms, see the images of their
    own process; with `gather`, losses that compare the images of a batch see those of all processes.

    `freeze` names parts of the student that keep what they start with, `freeze_except` parts inside of these
    that train after all: `freeze: [backbone]`, `freeze_except: [backbone.blocks.11]`.
    """

    epochs: PositiveInt
    batch_size: PositiveInt = 64
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: PositiveFloat = 1e-3
    backbone_lr_scale: Annotated[float, Field(ge=0, le=10)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    min_lr_scale: Fraction = 0.01
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: PositiveInt = 1
    clip_grad_norm: PositiveFloat | None = 1.0
    gather: bool = False
    ema: bool | Annotated[float, Field(gt=0, lt=1)] = False
    freeze: tuple[str, ...] = ()
    freeze_except: tuple[str, ...] = ()
    freeze_batch_norm: bool = False
    channels_last: bool = True
    compile: bool = False
    augment: AugmentConfig = AugmentConfig()
    mix: MixConfig | None = None
    balance: Literal["none", "classes"] = "none"
    sampler: SamplerConfig | None = None
    eval_every: PositiveInt = 1
    patience: PositiveInt | None = None
    select: Literal["top1", "mean_per_class", "cosine_mean", "map"] | None = None
    checkpoint_every_steps: PositiveInt | None = None
    workers: Annotated[int, Field(ge=0)] = 2
    seed: int = 0

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs ({self.epochs}), got {self.warmup_epochs}")
        return self

    @model_validator(mode="after")
    def _exceptions_are_frozen(self) -> TrainConfig:
        for name in self.freeze_except:
            if not any(name.startswith(f"{part}.") for part in self.freeze):
                raise ValueError(
                    f"freeze_except: '{name}' lies in no part that freeze names: it trains anyway"
                )
        return self

    @model_validator(mode="after")
    def _mix_has_partners(self) -> TrainConfig:
        if self.mix and self.batch_size == 1:
            raise ValueError("mix has no effect with batch_size 1: there is no other image to mix with")
        return self

    @model_validator(mode="after")
    def _sampler_fills_a_batch(self) -> TrainConfig:
        sampler = self.sampler
        if sampler is None:
            return self
        if sampler.classes and sampler.objects:
            visits = sampler.classes * sampler.objects * sampler.visits
            if visits != self.batch_size:
                times = f" x {sampler.visits} visits" if sampler.visits > 1 else ""
                raise ValueError(
                    f"sampler: {sampler.classes} classes x {sampler.objects} objects{times} make {visits},"
                    f" and batch_size is {self.batch_size}"
                )
            if self.balance != "none":
                raise ValueError("balance has no effect beside sampler.classes: set one of them")
        elif self.batch_size % sampler.visits:
            raise ValueError(f"sampler: visits {sampler.visits} does not divide batch_size {self.batch_size}")
        if self.mix:
            raise ValueError("mix mixes single images, and sampler shows views of objects: set one of them")
        return self

    @model_validator(mode="after")
    def _patience_can_end(self) -> TrainConfig:
        evaluations = -(-self.epochs // self.eval_every)
        # The first evaluation is the best so far, and after the last one training ends anyway.
        if self.patience is not None and self.patience > evaluations - 2:
            raise ValueError(
                f"patience {self.patience} has no effect: {self.epochs} epochs with eval_every"
                f" {self.eval_every} give {evaluations} evaluations"
            )
        return self


class BaselineConfig(Config):
    """Normal training of the same student without a teacher, as a row to compare with.

    It learns from labels alone: by classification, or under the `losses` given, such as triplets.
    """

    epochs: PositiveInt
    lr: PositiveFloat | None = None
    label_smoothing: Fraction | None = None
    losses: Annotated[tuple[SerializeAsAny[LossConfig], ...] | None, Components("loss")] = None

    @model_validator(mode="after")
    def _smooths_something(self) -> BaselineConfig:
        if self.losses is not None and self.label_smoothing is not None:
            raise ValueError("label_smoothing has no effect beside losses: set it there")
        if self.losses is not None and not self.losses:
            raise ValueError("losses is empty: nothing would be learnt")
        return self


class Recipe(Config):
    """One YAML file, validated as a whole before anything runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: SerializeAsAny[DataConfig]
    curate: CurateConfig | None = None
    teacher: SerializeAsAny[TeacherConfig]
    student: SerializeAsAny[StudentConfig]
    losses: Annotated[list[SerializeAsAny[LossConfig]], Field(min_length=1)]
    train: TrainConfig
    baseline: BaselineConfig | None = None
    compress: CompressConfig | None = None
    head: SerializeAsAny[HeadConfig]
    deploy: DeployConfig = DeployConfig()
    bench: BenchConfig = BenchConfig()
    gates: GatesConfig = GatesConfig()


SLOTS = {"data": "data", "teacher": "teacher", "student": "student", "losses": "loss", "head": "head"}
"""Recipe key -> registry group. `losses` is a list of components, the others are one each."""

Plain = dict[str, Any]
"""A recipe as plain JSON-able data."""
