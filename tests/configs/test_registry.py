from __future__ import annotations

import pytest

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import GROUPS, build, component_class, discover, kind_of, register


@pytest.mark.parametrize("group", list(GROUPS))
def test_discover__every_component_is_described_and_constructible(group: str) -> None:
    found = discover(group)
    assert found
    assert list(found) == sorted(found)
    for kind, component in found.items():
        assert kind_of(component) == kind
        assert (component.__doc__ or "").strip(), f"{group} {kind} has no docstring"


def test_register__a_taken_kind_is_refused() -> None:
    taken = discover("data")["image_folder"].__dict__["Config"]
    another = type("Another", (), {"Config": taken})
    with pytest.raises(ValueError, match="'image_folder' is registered by"):
        register("data")(another)


def test_component_class__unknown_kind() -> None:
    with pytest.raises(UsageError, match="Did you mean 'solids'"):
        component_class("data", "solid")


def test_build__by_the_kind_of_the_config() -> None:
    config = component_class("data", "solids").__dict__["Config"](views=3)
    built = build("data", config)
    assert type(built).__name__ == "Solids"
    assert built.config.views == 3
