"""What each form's engine computes each layer in, as the bench stage keeps it and the report reads it.

`bench/layers.json`: by `form/engine/precision` either `{"layers": [{name, kind, precision, kernel}]}` in the
order of execution or `{"reason": why they are not known}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeproof_deploy.engine_layers import layers_in_engine

LAYERS_FILE = "layers.json"
Layers = Mapping[str, Mapping[str, Any]]


def layers_by_form(files: Mapping[str, tuple[str, Path]], sessions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers of every form that is open, but of PyTorch, which runs them as they are written.

    Args:
        files: engine and file of each form, by `form/engine/precision`.
        sessions: those that are open, by the same names.
    """
    found: dict[str, Any] = {}
    for name, session in sessions.items():
        engine, file = files[name]
        if engine.startswith("pytorch"):
            continue
        told = layers_in_engine(engine, file, session)
        found[name] = (
            {"reason": told} if isinstance(told, str) else {"layers": [one.to_dict() for one in told]}
        )
    return found
