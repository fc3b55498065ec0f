"""Which teacher a command on data works with: one described on the command line, a recipe's, or a run's."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import UsageError


@dataclass(frozen=True)
class TeacherChoice:
    """What was said on the command line; at most one of `described`, `recipe` and `run` counts.

    Attributes:
        described: a teacher as it stands in a recipe: `{kind: open_clip, model: ViT-B-32, pretrained: ...}`.
        recipe: a recipe whose teacher is taken.
        overrides: changes of that recipe.
        run: a run whose teacher is taken.
        device: where torch works; None chooses.
    """

    described: str | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    run: Path | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("described", "recipe", "run") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError("--teacher, --recipe and --run: whose teacher?", fix="say one of them")
        if self.overrides and self.recipe is None:
            raise UsageError("--set has no effect without --recipe", fix="remove it, or say --recipe RECIPE")

    @property
    def given(self) -> bool:
        """Whether any teacher was named."""
        return any(value is not None for value in (self.described, self.recipe, self.run))

    def build(self, root: Path | None = None) -> Any:
        """Return the teacher.

        Args:
            root: where relative paths of stored embeddings start; a recipe's own data root comes first.

        Raises:
            UsageError: none is named, or the description is not valid.
        """
        if not self.given:
            raise UsageError(
                "by which teacher?",
                fix="say --teacher '{kind: open_clip, model: …, pretrained: …}', --recipe R or --run DIR",
            )
        from edgeproof.ship import choose_device
        from edgeproof_configs.registry import build
        from edgeproof_train.teacher import TeacherPlaces

        with redirect_stdout(sys.stderr):
            device = choose_device(self.device)
        config, data_root, stage_folder = self._settings(root)
        return build("teacher", config, TeacherPlaces(data_root, stage_folder, device)).lead

    def _settings(self, root: Path | None) -> tuple[Any, Path | None, Path | None]:
        """Return the teacher's config, where its relative paths start, and the folder it was trained in."""
        if self.described is not None:
            return described_teacher(self.described), root, None
        from edgeproof_configs.loader import load_recipe
        from edgeproof_configs.registry import build
        from edgeproof_configs.run import RunDir, require_run

        source = self.recipe
        if source is None:
            assert self.run is not None
            source = str(require_run(self.run).path / "recipe.resolved.yaml")
        loaded = load_recipe(source, list(self.overrides)).recipe
        folder = RunDir(self.run or Path("runs") / loaded.name).stage("teacher")
        data_root = root if root is not None else build("data", loaded.data).root
        return loaded.teacher, data_root, folder


def described_teacher(text: str) -> Any:
    """Return the config of a teacher that is written as YAML.

    Raises:
        UsageError: it is not valid.
    """
    import yaml
    from pydantic import ValidationError

    from edgeproof_configs.registry import component_class

    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--teacher is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(plain, dict) or not isinstance(plain.get("kind"), str):
        raise UsageError(
            f"--teacher says '{text}', which names no kind",
            fix="write it as in a recipe: --teacher '{kind: open_clip, model: ViT-B-32, pretrained: …}'",
        )
    config: Any = getattr(component_class("teacher", plain["kind"]), "Config")
    try:
        return config.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(
            f"--teacher: {key}: {said}" if key else f"--teacher: {said}", fix="see `edgeproof ls teachers`"
        ) from error
