"""What compression would refuse, asked before anything is trained: names do not depend on weights."""

from __future__ import annotations

from edgeproof_compress.quantize import choose_layers
from edgeproof_compress.quantizers import make_quantizer
from edgeproof_compress.sparsify import check_sparsity
from edgeproof_configs.schema import Recipe
from edgeproof_train.outline import random_student


def check_compression(recipe: Recipe) -> None:
    """Refuse patterns that match no layer, layers that cannot be pruned, and backends that are not there.

    Raises:
        UsageError: as the stages would.
        MissingPackageError: as the stages would.
    """
    if recipe.compress is None:
        return
    check_sparsity(recipe)
    config = recipe.compress.quantization
    if config is not None:
        make_quantizer(config.backend, per_channel=False)
        choose_layers(random_student(recipe, any_width=True), config)
