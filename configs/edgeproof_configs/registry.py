"""The registry of components: data sets, teachers, students, losses, heads, engines.

A component is a class whose nested `Config` (a pydantic model with a literal `kind`) stands beside it.
Registering is one decorator; finding is importing every module of the package that a group lives in, which
happens only when somebody asks. This is the ground floor's one reach upward: by string, never at import.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from edgeproof_configs.errors import MissingPackageError, UsageError, did_you_mean

GROUPS = {
    "data": "edgeproof_data.kinds",
    "teacher": "edgeproof_train.teachers",
    "student": "edgeproof_train.students",
    "loss": "edgeproof_train.losses",
    "head": "edgeproof_train.heads",
    "engine": "edgeproof_deploy.engines",
}

_components: dict[str, dict[str, type]] = {group: {} for group in GROUPS}
_discovered: set[str] = set()
T = TypeVar("T", bound=type)


def kind_of(component: type) -> str:
    """Return the name under which a component class is registered."""
    config: Any = component.__dict__["Config"]
    return config.model_fields["kind"].default


def register(group: str) -> Callable[[T], T]:
    """Class decorator: make a component known under its `Config`'s `kind`.

    Raises:
        ValueError: the kind is taken by another class.
    """

    def add(component: T) -> T:
        kind = kind_of(component)
        known = _components[group].setdefault(kind, component)
        if known.__qualname__ != component.__qualname__ or known.__module__ != component.__module__:
            taken = f"{known.__module__}.{known.__qualname__}"
            raise ValueError(f"{group} kind {kind!r} is registered by {taken} already")
        _components[group][kind] = component
        return component

    return add


def discover(group: str) -> dict[str, type]:
    """Import every module of a group's package and return its components by kind, sorted.

    Raises:
        MissingPackageError: a module of the group needs a package that is not installed.
    """
    if group not in _discovered:
        package = GROUPS[group]
        try:
            module = importlib.import_module(package)
            for info in pkgutil.iter_modules(module.__path__):
                importlib.import_module(f"{package}.{info.name}")
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"package '{error.name}' is needed for every {group} and is not installed",
                fix="pip install 'edgeproof[all]'",
            ) from error
        _discovered.add(group)
    return dict(sorted(_components[group].items()))


def component_class(group: str, kind: str) -> type:
    """Return the component class of a kind.

    Raises:
        UsageError: no such kind.
    """
    known = discover(group)
    if kind not in known:
        hint = did_you_mean(kind, list(known))
        raise UsageError(f"unknown {group} kind '{kind}'.{hint} Known: {', '.join(known)}")
    return known[kind]


def build(group: str, config: Any, *args: Any, **kwargs: Any) -> Any:
    """Construct the component that a validated config belongs to: `Component(config, *args, **kwargs)`."""
    return component_class(group, config.kind)(config, *args, **kwargs)
