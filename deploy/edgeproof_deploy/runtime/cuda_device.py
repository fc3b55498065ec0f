"""The CUDA device of this machine, as NVIDIA's driver tells it; no package is needed to ask."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

from edgeproof_deploy.runtime.errors import UnavailableError

DRIVER = "libcuda.so.1"
MAJOR, MINOR = 75, 76
"""Numbers of the attributes with the compute capability (`CUdevice_attribute` of the driver API)."""

MODULE_VERSION = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class CudaDevice:
    """A GPU.

    Attributes:
        name: as the driver gives it.
        compute_capability: such as `8.6`.
        driver: release of the kernel's driver, or else the CUDA version that the driver knows.
    """

    name: str
    compute_capability: str
    driver: str


def why_no_cuda() -> str | None:
    """Return why no CUDA device can be used, asking NVIDIA's driver itself, or None if there is one."""
    try:
        cuda_device()
    except UnavailableError as error:
        return str(error)
    return None


def cuda_device() -> CudaDevice:
    """Return the first CUDA device.

    Raises:
        UnavailableError: there is no driver, or it finds no device.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise UnavailableError("there is no NVIDIA driver on this machine") from error
    count, device = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise UnavailableError("the NVIDIA driver finds no CUDA device on this machine")
    name, major, minor, version = ctypes.create_string_buffer(256), *(ctypes.c_int() for _ in range(3))
    failed = (
        driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetName(name, len(name), device)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device)
        or driver.cuDriverGetVersion(ctypes.byref(version))
    )
    if failed:
        raise UnavailableError(f"the NVIDIA driver does not describe its first device (error {failed})")
    cuda = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    return CudaDevice(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", release() or cuda)


def release() -> str | None:
    """Return the release of NVIDIA's kernel module, such as `560.35.03`, where the system tells it."""
    try:
        found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", MODULE_VERSION.read_text(errors="replace"))
    except OSError:
        return None
    return found[0] if found else None
