"""Normal training: a linear classifier on the student's embedding, learnt from labels alone."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_train.label_targets import LabelLossConfig, label_targets, mean_over
from edgeproof_train.loss import Loss, LossContext, fp32_island
from edgeproof_train.outputs import StepOutputs


@register("loss")
class LabelCrossEntropy(Loss):
    """`CE(W e_s + b, y)` over the classes of the data, with W and b owned and trained by the loss.

    Alone it is what distillation has to beat: the same student, images and loop, with no teacher and no
    text. The classifier, `outputs.student.embedding -> (B, num_classes)`, is saved beside the student.
    Mixed images are learnt as `share CE(y) + (1 - share) CE(partner)`. Images without a label are left out
    of the mean.
    """

    class Config(LabelLossConfig):
        """No settings beside the weight and the smoothing."""

        kind: Literal["label_cross_entropy"] = "label_cross_entropy"

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "batch.label")

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        self.classifier = nn.Linear(context.student_dim, context.num_classes)

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        logits = self.classifier(outputs.student.embedding)
        target, labelled = label_targets(outputs, logits.shape[1], self.config.label_smoothing)
        return mean_over(F.cross_entropy(logits, target.to(logits.dtype), reduction="none"), labelled)
