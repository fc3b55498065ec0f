"""What a run would be refused for after hours of work, refused before it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgeproof.stages import ORDER, Stage
from edgeproof_configs.errors import UsageError, did_you_mean
from edgeproof_configs.head_checks import is_matrix
from edgeproof_configs.registry import build
from edgeproof_configs.run import RunDir
from edgeproof_configs.schema import Recipe


def refuse_unknown_stage(name: str | None, more: Collection[str] = ()) -> None:
    """Refuse the name of a stage that there is not.

    Args:
        name: None asks for none.
        more: names that stand for several stages.

    Raises:
        UsageError: no stage has this name.
    """
    if name is not None and name not in (*ORDER, *more):
        raise UsageError(f"unknown stage '{name}'.{did_you_mean(name, ORDER)} Stages: {', '.join(ORDER)}")


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


def refuse_head_early(recipe: Recipe, stages: list[Stage], run: RunDir) -> None:
    """Refuse words that cannot be read, and a matrix that cannot be as small as it has to be.

    Args:
        recipe: with the head, and losses that have words of their own.
        stages: those that may still run.
        run: which may know by now how wide an embedding is.

    Raises:
        UsageError: a template set is unknown, or a matrix of so many labels is larger than `max_bytes`.
        DataError: a file of words or of their embeddings is missing or cannot be read, or templates stand
            beside sentences.
    """
    source: Any = build("data", recipe.data)
    head: Any = recipe.head
    left = {stage.name for stage in stages}
    if "embed" in left:
        from edgeproof_train.text import check_words

        for where, one in (("head", head), *(("losses", loss) for loss in recipe.losses)):
            spec = getattr(one, "text_spec", lambda: None)()
            if spec is not None:
                check_words(spec, source, where)
    most = getattr(head, "max_bytes", None)
    if "head" in left and most is not None and is_matrix(head):
        from edgeproof_train.text import label_names, stored_width

        spec, record = head.text_spec(), run.record("embed")
        known = stored_width(spec, source.root) or (record.metrics.get("dim") if record else None)
        labels = len(label_names(spec, source))
        least = 4 * labels * (known or 1)
        if least > most:
            of = f" of {known} values" if known else ""
            raise UsageError(
                f"a head of {labels} labels{of} takes more than {least} bytes, {most} are allowed",
                where="head.max_bytes",
                fix="allow more, or leave it out: this kind of head is one matrix and cannot be made smaller",
            )
