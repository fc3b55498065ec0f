"""What the stages before compression make ready for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.stage import StageContext
from edgeproof_train.run_data import RunData
from edgeproof_train.stages import embed_stage

MakeContext = Callable[..., StageContext]


def test_embed_stage__makes_the_words_that_only_tuning_needs(make_context: MakeContext) -> None:
    root = Path(RunData(make_context()).source.root or "")
    np.save(root / "other.npy", np.load(root / "text.npy")[::-1])
    loss = "{kind: text_kl, text_embeddings: other.npy, labels: labels.txt}"
    context = make_context(overrides=(f"compress.losses=[{loss}]",))
    data = RunData(context)
    assert data.source.class_names
    assert not data.has_own_words
    tuning = data.for_tuning()
    assert tuning.has_own_words
    assert tuning.source is data.source
    with pytest.raises(EdgeproofError, match="text embeddings are missing"):
        tuning.text_rows(tuning.recipe.losses[0].text_spec())  # pyright: ignore[reportAttributeAccessIssue]
    embed_stage(context)
    rows = tuning.text_rows(tuning.recipe.losses[0].text_spec())  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(rows.numpy(), np.load(root / "other.npy"), atol=1e-6)


def test_embed_stage__refuses_losses_of_tuning_that_cannot_work(make_context: MakeContext) -> None:
    loss = "{kind: attention_transfer, nodes: [{student: layer2, teacher: layer3}]}"
    losses = f"compress.losses=[{{kind: cosine_embedding}}, {loss}]"
    changed = ("teacher.view=exact", "train.augment.flip=0", losses)
    with pytest.raises(UsageError, match="feature maps"):
        embed_stage(make_context(overrides=changed))


def test_for_tuning__losses_that_go_on_have_warmed_up(make_context: MakeContext) -> None:
    data = RunData(make_context(overrides=("losses.0.warmup_epochs=1",)))
    assert data.recipe.losses[0].warmup_epochs == 1
    tuning = data.for_tuning()
    assert [loss.warmup_epochs for loss in tuning.recipe.losses] == [0, 0]
    assert [loss.kind for loss in tuning.recipe.losses] == [loss.kind for loss in data.recipe.losses]
