"""What a run would be refused for after hours of work, refused before it."""

from __future__ import annotations

from edgeproof.stages import Stage
from edgeproof_configs.schema import Recipe


def refuse_compression_early(recipe: Recipe, stages: list[Stage]) -> None:
    """Let compression refuse what it would refuse anyway, before hours of training.

    Raises:
        UsageError: a pattern matches no layer.
        MissingPackageError: a backend is not installed.
    """
    if {"sparsify", "quantize"} & {stage.name for stage in stages}:
        from edgeproof_compress.check import check_compression

        check_compression(recipe)


def refuse_engines_early(recipe: Recipe, stages: list[Stage]) -> None:
    """Let engines refuse what they would refuse anyway, before hours of training.

    Args:
        recipe: names the engines.
        stages: those that may still run.

    Raises:
        MissingPackageError: a package or a device is missing that an engine needs to build.
    """
    if "build" in {stage.name for stage in stages}:
        from edgeproof_deploy.engine import make_engine

        for kind in recipe.deploy.engines:
            make_engine(kind).check_can_build()
