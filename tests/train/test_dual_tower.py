from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip.loss import ClipLoss
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_train.dual_tower import DualTower, Vocabulary, contrastive_loss


def embeddings(seed: int, rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def test_contrastive_loss__one_positive_each_is_clips_loss() -> None:
    image, text = embeddings(0), embeddings(1)
    scale = torch.tensor(7.0)
    oracle = ClipLoss()(F.normalize(image, dim=-1), F.normalize(text, dim=-1), scale)
    torch.testing.assert_close(contrastive_loss(image, text, torch.eye(6), scale), oracle)


def test_contrastive_loss__hand_case_with_two_positives() -> None:
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    match = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    # Rows: two equal candidates. Columns: logits 1 and 0, both of them right.
    columns = -(torch.tensor([1.0, 0.0]).log_softmax(0)).mean()
    expected = (torch.log(torch.tensor(2.0)) + columns) / 2
    torch.testing.assert_close(contrastive_loss(image, text, match, torch.tensor(1.0)), expected)


def test_contrastive_loss__does_not_depend_on_lengths_and_takes_half_precision() -> None:
    image, text = embeddings(2), embeddings(3)
    scale = torch.tensor(100.0)
    plain = contrastive_loss(image, text, torch.eye(6), scale)
    torch.testing.assert_close(contrastive_loss(3 * image, 0.2 * text, torch.eye(6), scale), plain)
    half = contrastive_loss((1e3 * image).half(), text.half(), torch.eye(6), scale)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, rtol=2e-2, atol=2e-2)


def test_contrastive_loss__gradient() -> None:
    image, text = embeddings(4, 4).double().requires_grad_(), embeddings(5, 4).double().requires_grad_()
    match = torch.eye(4)
    match[0, 1] = 1

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(a, b, match, torch.tensor(5.0))

    # The loss computes in float32, so the numerical derivative is coarse.
    assert torch.autograd.gradcheck(loss, (image, text), eps=1e-2, atol=2e-2, rtol=5e-2)


def test_vocabulary__numbers_follow_clips_tokens() -> None:
    texts = ["a photo of a red cube", "something blue"]
    vocabulary = Vocabulary.of(texts, 12)
    expected = open_clip.tokenizer.SimpleTokenizer(context_length=12)(texts)
    found = torch.tensor(vocabulary.known)[vocabulary(texts)]
    assert torch.equal(found, expected)


def test_vocabulary__refuses_words_that_it_never_saw() -> None:
    vocabulary = Vocabulary.of(["a red cube"], 8)
    with pytest.raises(UsageError, match="never read 'zebra'"):
        vocabulary(["a red zebra"])
    with pytest.raises(UsageError, match="at most 8"):
        vocabulary(["a red cube a red cube a red cube"])


def test_dual_tower__both_towers_end_in_one_space() -> None:
    vocabulary = Vocabulary.of(["a red cube", "a blue cone"], 8)
    tower = DualTower(
        model="test_resnet.r160_in1k",
        kwargs={},
        embedding_dim=24,
        vocabulary=len(vocabulary.known),
        context_length=8,
        text_width=32,
        text_layers=1,
    ).eval()
    assert tower.image(torch.zeros(2, 3, 32, 32)).shape == (2, 24)
    assert tower.text(vocabulary(["a red cone"])).shape == (1, 24)
    tower.log_scale.data.fill_(50.0)
    assert tower.logit_scale.item() == pytest.approx(100.0)
