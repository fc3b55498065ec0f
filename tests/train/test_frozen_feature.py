from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from sklearn.decomposition import PCA
from torch import nn

from edgeproof_configs.errors import UsageError
from edgeproof_train.frozen_feature import FrozenFeature, Reduction, last_norm, principal_axes

IMAGE = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
SAM = {"img_size": 64, "embed_dim": 32, "depth": 1, "num_heads": 2, "global_attn_indexes": (0,)}


def network(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **settings).eval()


def read(model: Any, kind: Any, image: torch.Tensor = IMAGE) -> torch.Tensor:
    with torch.no_grad():
        return FrozenFeature(model, kind)(image)


def behind(model: Any, image: torch.Tensor = IMAGE) -> torch.Tensor:
    with torch.no_grad():
        return model.forward_features(image)


def test_feature__parts_of_a_vision_transformer() -> None:
    model = network("test_vit")
    tokens = behind(model)
    torch.testing.assert_close(read(model, "cls"), tokens[:, 0])
    torch.testing.assert_close(read(model, "tokens_mean"), tokens[:, 1:].mean(dim=1))
    torch.testing.assert_close(read(model, "flattened"), tokens[:, 1:].flatten(1))
    torch.testing.assert_close(read(model, "pooled"), tokens[:, 0])
    with torch.no_grad():
        torch.testing.assert_close(model.norm(read(model, "pre_norm")), tokens[:, 0])
    assert not torch.allclose(read(model, "pre_norm"), read(model, "cls"))


def test_feature__before_the_norm_of_a_transformer_that_pools_all_patches() -> None:
    model = network("test_vit", global_pool="avg")
    pooled = read(model, "pre_norm")
    with torch.no_grad():
        torch.testing.assert_close(model.fc_norm(pooled), read(model, "pooled"))


def test_feature__register_tokens_are_no_patches() -> None:
    model = network("test_vit", reg_tokens=4)
    tokens = behind(model)
    torch.testing.assert_close(read(model, "tokens_mean"), tokens[:, 5:].mean(dim=1))
    assert FrozenFeature(model, "cls").shapes(160, torch.device("cpu"))[1] == (100, 64)


def test_feature__parts_of_a_segmentation_transformer() -> None:
    model = network("samvit_base_patch16", num_classes=0, **SAM)
    image = IMAGE[:, :, :64, :64]
    maps = behind(model, image)
    torch.testing.assert_close(read(model, "tokens_mean", image), maps.mean(dim=(2, 3)))
    torch.testing.assert_close(read(model, "flattened", image), maps.flatten(2).transpose(1, 2).flatten(1))
    assert last_norm(model) is model.neck[-1]
    assert read(model, "pre_norm", image).shape == (2, maps.shape[1])
    with pytest.raises(UsageError, match="no class token"):
        FrozenFeature(model, "cls")


@pytest.mark.parametrize("kind", ["pooled", "tokens_mean", "flattened"])
def test_shapes__are_those_of_what_is_read(kind: Any) -> None:
    for name in ("test_vit", "test_convnext"):
        model = network(name)
        width, _ = FrozenFeature(model, kind).shapes(160, torch.device("cpu"))
        assert read(model, kind).shape == (2, width)


def test_last_norm__a_network_without_one() -> None:
    with pytest.raises(UsageError, match="no norm behind its last block"):
        last_norm(network("test_resnet"))


def test_principal_axes__are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(40, 300, generator=generator) @ torch.diag(torch.linspace(3, 0.1, 300))
    reduction, kept = principal_axes(features, 5)
    reference = PCA(5, svd_solver="full").fit(features.double().numpy())
    found = reduction(features).double().numpy()
    expected = reference.transform(features.double().numpy())
    signs = (found * expected).sum(axis=0) > 0
    torch.testing.assert_close(
        torch.from_numpy(found), torch.from_numpy(expected * (2 * signs - 1)), atol=1e-3, rtol=1e-3
    )
    assert kept == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-5)


def test_principal_axes__too_few_images() -> None:
    with pytest.raises(UsageError, match="need more than 8 training images, and there are 8"):
        principal_axes(torch.randn(8, 20), 8)
    with pytest.raises(UsageError, match="do not vary along 3 axes"):
        principal_axes(torch.arange(10.0)[:, None] * torch.ones(1, 6), 3)
    with pytest.raises(UsageError, match="32 principal axes of features of 16 values"):
        principal_axes(torch.randn(200, 16), 32)


def test_random__keeps_distances_on_average() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(30, 2000, generator=generator)
    reduction = Reduction.random(2000, 256)
    ratio = torch.pdist(reduction(features)) / torch.pdist(features)
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(reduction.directions, Reduction.random(2000, 256).directions)
    assert not isinstance(reduction.directions, nn.Parameter)
