"""AlexNet over several views of an object: one global token and one for each place of the pooled map.

The convolutions of AlexNet (arXiv 1404.5997) without their last pooling make a map of 256 channels for each
view, 13 x 13 at 224 pixels. The maximum over the views goes through one more convolution, to 7 x 7 or to
another grid, whose places are the local tokens. Two linear layers make the global token of all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_train.view_pooling import as_views

WIDTH = 256
HIDDEN = 1024


class MultiViewAlexNet(nn.Module):
    """Views (B, V, 3, H, W) in, a global feature (B, 256) and local ones (B, P, 256) out.

    Args:
        side: H and W in pixels.
        grid: P is its square: the map is resized to it; None takes the 7 x 7 that a stride of 2 gives at 224.
        mixed: cut the map into local features as the earlier system did, across channels, for its weights.
    """

    def __init__(self, side: int, grid: int | None = None, mixed: bool = False):
        super().__init__()
        self.grid = grid
        self.mixed = mixed
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU()),
            *(nn.Conv2d(384, WIDTH, 3, 1, 1), nn.ReLU()),
            *(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), nn.ReLU()),
        )
        self.local = nn.Conv2d(WIDTH, WIDTH, 3, 1 if grid else 2, 1)
        with torch.no_grad():
            places = self.place_map(torch.zeros(1, 1, 3, side, side)).shape[-1] ** 2
        self.places = places
        self.fc1 = nn.Linear(WIDTH * places, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, WIDTH)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the global feature (B, 256) and the local ones (B, P, 256), row by row of the map."""
        places = self.place_map(as_views(image))
        flat = places.flatten(1)
        local = flat.unflatten(1, (-1, WIDTH)) if self.mixed else places.flatten(2).transpose(1, 2)
        return self.fc2(F.relu(self.fc1(flat))), local

    def place_map(self, views_BV3HW: Tensor) -> Tensor:
        """Return the map (B, 256, S, S) of the maximum over the views."""
        shape = (views_BV3HW.shape[0], views_BV3HW.shape[1])
        pooled = self.features(views_BV3HW.flatten(0, 1)).unflatten(0, shape).amax(dim=1)
        if self.grid:
            pooled = F.interpolate(pooled, (self.grid, self.grid), mode="bilinear", align_corners=False)
        return self.local(pooled)
