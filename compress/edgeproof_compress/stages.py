"""The stages that make a trained student smaller and faster."""

from __future__ import annotations

from edgeproof_compress.int8_forms import quantize_forms
from edgeproof_compress.sparsify import sparsify
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_train.run_data import RunData


def sparsify_stage(context: StageContext) -> StageOutcome:
    """Prune the student to 2:4 and tune it under the recipe's losses."""
    found = sparsify(RunData(context))
    return StageOutcome(found.files, found.metrics, found.summary)


def quantize_stage(context: StageContext) -> StageOutcome:
    """Make the student, and the sparse one where there is one, compute in INT8."""
    return quantize_forms(RunData(context))
