"""The fixture `edgeproof_bundle` for a user's own tests: is the bundle, on this machine, what it was?

    def test_parity(edgeproof_bundle):
        edgeproof_bundle("bundles/my-photos").assert_parity()

Installed with edgeproof as an entry point of pytest. It imports nothing until the fixture is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from edgeproof_deploy.bundle_parity import BundleParity


class CheckBundle(Protocol):
    """What the fixture gives: see `edgeproof_deploy.bundle_parity.check_bundle`."""

    def __call__(self, path: str | Path, images: str | Path | None = None, **options: Any) -> BundleParity:
        """Compare a bundle with what is stored in it, and on a folder of images."""
        ...


@pytest.fixture(scope="session")
def edgeproof_bundle(request: pytest.FixtureRequest) -> CheckBundle:
    """Return a function that compares a bundle; relative paths start at pytest's root folder.

    The function takes `images` (a folder), `engines`, `threads` and `rebuild`, and returns what was found:
    `.assert_parity()` fails with every gate that does not hold, `.failures()` lists them, `.pairs` has the
    figures. A missing engine skips nothing by itself: with `strict=True` what could not be measured fails.
    """
    root = request.config.rootpath

    def check(path: str | Path, images: str | Path | None = None, **options: Any) -> BundleParity:
        __tracebackhide__ = True
        from edgeproof_deploy.bundle_parity import check_bundle

        place = None if images is None else root / images
        return check_bundle(root / path, place, **options)

    return check
