"""Any timm backbone shared by the views of an object, which are pooled after it or in the middle of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, fx, nn

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.students.timm import TimmStudent, card_settings, feature_width, make_head
from edgeproof_train.taps import Layout, has_channels_last, in_eval_mode, layout_around, plausible_nodes
from edgeproof_train.view_pooling import NodePooling, PoolingKind, ViewPool, as_views, pooling_node
from edgeproof_train.weights import load_into

FEATURES = "features"
OWN = ("view_pool", "token_head")
"""Parts that the backbone and the embedding head do not have."""


@register("student")
class MultiViewStudent(TimmStudent):
    """MVCNN (arXiv 1505.00880) around any timm network: views (B, V, 3, H, W) in, with any V.

    All views go through one network as a batch of B V images. Their features are pooled before the embedding
    head; or the maps of a node are, and what stands behind it sees one map an object.
    """

    class Config(TimmStudent.Config):
        """What `timm` has, and how views become one.

        Attributes:
            pooling: maximum, mean, or a mean with learnt weights.
            pool_at: `features`, or a stage or block of the network, such as `layer3` or `blocks.8`.
            hidden_layers: of an `mlp` head, 1 unless told, each as wide as the features.
            tokens: also give a token for each place of the network's last map, for losses that ask for them;
                a linear layer of its own maps it to the embedding's width.
        """

        kind: Literal["multi_view"] = "multi_view"  # pyright: ignore[reportIncompatibleVariableOverride]
        pooling: PoolingKind = "max"
        pool_at: str = Field(FEATURES, min_length=1)
        hidden_layers: Literal[1, 2, 3] | None = None
        tokens: bool = False

        @model_validator(mode="after")
        def _hidden_layers_are_of_an_mlp(self) -> MultiViewStudent.Config:
            if self.hidden_layers is not None and self.head != "mlp":
                raise ValueError("hidden_layers has no effect without head: mlp")
            return self

    input_name = "views"
    config: Config

    def __init__(self, config: Config, embedding_dim: int, root: Path | None = None):
        super().__init__(config, embedding_dim, root)
        self.pools_late = config.pool_at == FEATURES
        shape, axis = (1, feature_width(self.backbone, config)), 1
        if not self.pools_late:
            shape, axis = self._shape_at(config.pool_at)
        self.view_pool = ViewPool(config.pooling, shape[axis], axis, len(shape))
        self.node_pooling = NodePooling(self.view_pool)
        if not self.pools_late:
            self.backbone.get_submodule(config.pool_at).register_forward_hook(self.node_pooling)
            self._check_pools()
        self.token_head: nn.Linear | None = None
        if config.tokens:
            example = self._example_map()
            self.map_is_tokens = example.ndim == 3
            layout = Layout(channels_last=getattr(self.backbone, "output_fmt", None) == "NHWC")
            self.map_has_channels_last = example.ndim == 4 and has_channels_last(example, layout)
            places, channels = self._local_tokens(example).shape[1:]
            self.token_head = nn.Linear(channels, embedding_dim)
            self.training_only = ("token_head",)
            self.token_shape = (1 + places, embedding_dim)

    def new_head(self, width: int) -> nn.Module:
        """Return the map from pooled features (B, F) to the embedding (B, D)."""
        layers = self.config.hidden_layers or 1
        if layers == 1:
            return make_head(self.config.head, width, self.embedding_dim)
        hidden = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.GELU())]
        return nn.Sequential(*hidden, nn.Linear(width, self.embedding_dim))

    def forward(self, image: Tensor) -> ModelOutputs:
        """Return the outputs for views (B, V, 3, H, W); images (B, 3, H, W) are objects with one view.

        The embedding (B, D) is not normalised. Tokens (B, 1 + P, D) have it first.
        """
        # Of a graph of operations only the embedding is wanted.
        if self.token_head is None or isinstance(image, fx.Proxy):
            return self.outputs(self.head(self.pooled(image)))
        views, network = as_views(image), self._network
        maps = self._through(network.forward_features, views)
        features, local = network.forward_head(maps), self._local_tokens(maps)
        if self.pools_late:
            shape = views.shape[:2]
            each = features.unflatten(0, shape)
            features, local = self.view_pool(each), self.view_pool(local.unflatten(0, shape), each)
        outputs = self.outputs(self.head(features))
        tokens = torch.cat([outputs.embedding[:, None], self.token_head(local)], dim=1)
        return ModelOutputs(outputs.embedding, outputs.logits, tokens=tokens)

    def pooled(self, image: Tensor) -> Tensor:
        """Return what the embedding head sees of an object (B, F)."""
        views = as_views(image)
        features = self._through(self.backbone, views)
        if not self.pools_late:
            return features
        return self.view_pool(features.unflatten(0, (views.shape[0], views.shape[1])))

    def encode_views(self, image: Tensor) -> Tensor:
        """Return the features (N, F) of single views (N, 3, H, W).

        Raises:
            ValueError: views are pooled within the network.
        """
        return self.backbone(image) if self.pools_late else super().encode_views(image)

    def pool_views(self, features_BVF: Tensor) -> ModelOutputs:
        """Return the outputs for objects of which each view's features are known; their tokens are left out.

        Raises:
            ValueError: views are pooled within the network.
        """
        if not self.pools_late:
            return super().pool_views(features_BVF)
        return self.outputs(self.head(self.view_pool(features_BVF)))

    def reuse_head(self, head: Any, node: str) -> None:
        """Refuse: SimKD projects the map of a single image."""
        raise UsageError(
            "simkd trains students of single images, and this one is of kind multi_view",
            where="losses",
            fix="use another loss, or student.kind: timm",
        )

    def card(self) -> dict[str, Any]:
        """Return the description, with how views become one."""
        config, card = self.config, super().card()
        own = {key: getattr(config, key) for key in ("pooling", "pool_at", "hidden_layers", "tokens")}
        card["edgeproof"] |= {"kind": config.kind, **own}
        return card

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> MultiViewStudent:
        """Return a student of the card's shape."""
        ours = card["edgeproof"]
        own = {key: ours[key] for key in ("pooling", "pool_at", "hidden_layers", "tokens")}
        return cls(cls.Config(**card_settings(card), **own), card["num_classes"])

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights; those of the pooling and of the tokens have their names in front."""
        own = {f"{part}.{name}": value for part in OWN for name, value in self._part(part).items()}
        return {**super().tensors(), **own}

    def load_tensors(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Take weights that `tensors` returned."""
        prefixes = tuple(f"{part}." for part in OWN)
        super().load_tensors({k: v for k, v in tensors.items() if not k.startswith(prefixes)}, path)
        for part, prefix in zip(OWN, prefixes, strict=True):
            found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            load_into(getattr(self, part) or nn.Identity(), found, f"student {part}", path)

    def head_parameters(self) -> Any:
        """Yield the named parameters of the head, the pooling and the map of tokens."""
        yield from super().head_parameters()
        for part in OWN:
            module = getattr(self, part)
            yield from module.named_parameters(prefix=part) if module is not None else ()

    def _part(self, name: str) -> dict[str, Tensor]:
        module: nn.Module | None = getattr(self, name)
        return {} if module is None else module.state_dict()

    @property
    def _network(self) -> Any:
        return self.backbone

    def _through(self, network: Any, views: Tensor) -> Tensor:
        """Run all views as one batch; where a node pools, it learns here how many belong together."""
        self.node_pooling.shape = (views.shape[0], views.shape[1])
        try:
            return network(views.flatten(0, 1))
        finally:
            self.node_pooling.shape = None

    def _example_map(self) -> Tensor:
        side = self.preprocess.image_size
        with torch.no_grad(), in_eval_mode(self.backbone):
            return self._network.forward_features(torch.zeros(1, 3, side, side))

    def _local_tokens(self, maps: Tensor) -> Tensor:
        """Return a token for each place (N, P, C), row by row, of the network's last maps or tokens."""
        if self.map_is_tokens:
            return maps[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
        return maps.flatten(1, 2) if self.map_has_channels_last else maps.flatten(2).transpose(1, 2)

    def _shape_at(self, name: str) -> tuple[tuple[int, ...], int]:
        """Return the shape of what a node gives for one image, and which axis has its channels.

        Raises:
            UsageError: it does not exist, is a single layer or not reached, or gives no tensor of the image.
        """
        node = pooling_node(self.backbone, name, ", ".join(plausible_nodes(self.backbone)))
        made: list[Any] = []
        hook = node.register_forward_hook(lambda module, given, out: made.append(out))
        try:
            self._example_map()
        finally:
            hook.remove()
        if len(made) != 1 or not isinstance(made[0], Tensor) or made[0].ndim not in (2, 3, 4):
            raise self._unusable(name)
        layout = layout_around(self.backbone, name)
        last = made[0].ndim == 3 or (made[0].ndim == 4 and has_channels_last(made[0], layout))
        return tuple(made[0].shape), made[0].ndim - 1 if last else 1

    def _check_pools(self) -> None:
        side = self.preprocess.image_size
        try:
            with torch.no_grad(), in_eval_mode(self):
                found = self.pooled(torch.zeros(2, 3, 3, side, side))
        except RuntimeError as error:
            raise self._unusable(self.config.pool_at) from error
        if len(found) != 2:
            raise self._unusable(self.config.pool_at)

    def _unusable(self, name: str) -> UsageError:
        return UsageError(
            f"views cannot be pooled after '{name}': it does not give one map of each image, once",
            where="student.pool_at",
            fix=f"features, or one of {', '.join(plausible_nodes(self.backbone))}",
        )
