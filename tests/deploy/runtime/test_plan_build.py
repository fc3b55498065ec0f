"""What only TensorRT is told when it builds; its package is not in this suite, so stand-ins note the calls.

Building itself is tested with TensorRT-RTX, in `engines/test_tensorrt.py`.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeproof_deploy.runtime.cuda_device import CudaDevice
from edgeproof_deploy.runtime.errors import UnavailableError
from edgeproof_deploy.runtime.plan_build import (
    Profile,
    check_capabilities,
    configure,
    keep_timings,
    read_timing_cache,
)
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings

DEVICE = CudaDevice("Orin", "8.7", "540.4.0")


class Flag(Enum):
    TF32 = 0
    SPARSE_WEIGHTS = 1
    VERSION_COMPATIBLE = 2


def package(*levels: str) -> Any:
    """TensorRT as of 10.3, with these levels of hardware compatibility."""
    return SimpleNamespace(
        __version__="10.3.0",
        BuilderFlag=Flag,
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
        HardwareCompatibilityLevel=SimpleNamespace(**{name: name for name in levels}),
    )


class Config:
    """A builder config that notes what it is told."""

    def __init__(self, damaged: bytes | None = None) -> None:
        self.flags = {Flag.TF32}
        self.damaged = damaged
        self.cache: bytes | None = None

    def set_flag(self, flag: Flag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Flag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, count: int) -> None:
        self.workspace = (pool, count)

    def create_timing_cache(self, known: bytes) -> Any:
        return None if known == self.damaged else SimpleNamespace(serialize=lambda: known + b"+timings")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
        assert not ignore_mismatch
        self.cache = cache

    def get_timing_cache(self) -> Any:
        return self.cache


def test_configure__what_only_tensorrt_can() -> None:
    config: Any = Config()
    settings = PlanSettings(sparse=True, version_compatible=True, hardware_compatible="ampere_plus")
    configure(package("AMPERE_PLUS"), "tensorrt", config, settings)
    assert config.flags == {Flag.SPARSE_WEIGHTS, Flag.VERSION_COMPATIBLE}
    assert config.hardware_compatibility_level == "AMPERE_PLUS"
    assert config.workspace == ("workspace", 1 << 30)
    assert (config.builder_optimization_level, config.profiling_verbosity) == (3, "detailed")


def test_configure__half_precision_keeps_what_it_does_not_ask_for() -> None:
    config: Any = Config()
    configure(package(), "tensorrt", config, PlanSettings(precision="fp16", optimization_level=5))
    assert config.flags == {Flag.TF32}
    assert config.builder_optimization_level == 5
    assert not hasattr(config, "hardware_compatibility_level")


def test_configure__a_level_that_this_tensorrt_does_not_know() -> None:
    settings = PlanSettings(hardware_compatible="same_compute_capability")
    with pytest.raises(UnavailableError, match=r"TensorRT 10\.3\.0 does not know hardware_compatible: same_"):
        configure(package("AMPERE_PLUS"), "tensorrt", Config(), settings)


def test_check_capabilities__tensorrt_builds_for_the_device_at_hand() -> None:
    check_capabilities("tensorrt", PlanSettings(version_compatible=True))
    with pytest.raises(UnavailableError, match="for the device at hand alone"):
        check_capabilities("tensorrt", PlanSettings(compute_capabilities=("8.6",)))


def test_read_timing_cache__goes_on_from_the_build_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path))
    for kept in (b"+timings", b"+timings+timings"):
        config: Any = Config()
        file = read_timing_cache(config, package(), DEVICE)
        assert keep_timings(config, file) == "kept"
        assert file == tmp_path / "timing" / "tensorrt10.3.0-sm8.7-540.4.0.bin"
        assert file.read_bytes() == kept


def test_read_timing_cache__a_damaged_one_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path))
    config: Any = Config(damaged=b"damaged")
    file = tmp_path / "timing" / "tensorrt10.3.0-sm8.7-540.4.0.bin"
    file.parent.mkdir()
    file.write_bytes(b"damaged")
    assert read_timing_cache(config, package(), DEVICE) == file
    assert keep_timings(config, file) == "kept"
    assert file.read_bytes() == b"+timings"


def test_keep_timings__a_place_that_cannot_be_written(tmp_path: Path) -> None:
    config: Any = Config()
    config.set_timing_cache(config.create_timing_cache(b""), False)
    (tmp_path / "file").write_bytes(b"")
    assert keep_timings(config, tmp_path / "file" / "timings.bin").startswith("not kept for the next build: ")


def test_profile__of_views() -> None:
    found = Profile.of((-1, -1, 3, 8, 8), (2, 1, 4), (12, 1))
    assert found == Profile((1, 1, 3, 8, 8), (2, 12, 3, 8, 8), (4, 12, 3, 8, 8))
    assert Profile.of((-1, 6, 3, 8, 8), (1,), (12,)).largest == (1, 6, 3, 8, 8)
    with pytest.raises(ValueError, match="how many views"):
        Profile.of((-1, -1, 3, 8, 8), (1,))
