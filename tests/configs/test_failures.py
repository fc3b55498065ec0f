from __future__ import annotations

import errno
import os

import pytest
import typer

from edgeproof.catalogue import table
from edgeproof.failures import describe, is_out_of_memory
from edgeproof_configs.errors import GateError, LatencyGateError, MissingPackageError, UsageError


def raised(error: BaseException) -> BaseException:
    """Return an exception as it is after it has been raised: with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (UsageError("x"), 2),
        (GateError("x"), 3),
        (LatencyGateError("x"), 4),
        (MissingPackageError("x"), 5),
        (KeyboardInterrupt(), 130),
        (typer.Exit(3), 3),
        (typer.Abort(), 130),
        (typer.BadParameter("must be a number"), 2),
        (SystemExit(4), 4),
        (ModuleNotFoundError("No module named 'torch._C'", name="torch._C"), 5),
        (ModuleNotFoundError("No module named 'edgeproof_x'", name="edgeproof_x"), 1),
        (MemoryError(), 1),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x"), 1),
        (ValueError("first line\nsecond line"), 1),
        (RecursionError(), 1),
    ],
)
def test_describe__exit_code_and_at_most_three_lines(error: BaseException, exit_code: int) -> None:
    failure = describe(raised(error))
    assert failure.exit_code == exit_code
    assert len(failure.lines) <= 3
    assert all(line and "\n" not in line for line in failure.lines)


def test_describe__interrupted() -> None:
    assert describe(KeyboardInterrupt()).lines == ["stopped; run the same command again to go on"]


def test_describe__missing_package_names_the_extra() -> None:
    lines = describe(ModuleNotFoundError("No module named 'timm'", name="timm")).lines
    assert lines == ["error: package 'timm' is not installed", "  do: pip install 'edgeproof[train]'"]


def test_describe__unexpected_error_names_our_line_and_debug() -> None:
    with pytest.raises(TypeError) as caught:
        table([1])  # pyright: ignore[reportArgumentType]
    lines = describe(caught.value).lines
    assert lines[0].startswith("error: TypeError: cannot unpack")
    assert lines[1].startswith("  at: catalogue.py:")
    assert lines[1].endswith("in <genexpr>")
    assert lines[2] == "  do: run with --debug for the traceback"


def test_describe__a_long_message_is_cut() -> None:
    assert len(describe(ValueError("x" * 10_000)).lines[0]) < 240


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"), True),
        (RuntimeError("[ONNXRuntimeError] : Failed to allocate memory for requested buffer"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_is_out_of_memory__known_by_name_or_words(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_is_out_of_memory__what_torch_and_numpy_really_raise() -> None:
    numpy = pytest.importorskip("numpy")
    torch = pytest.importorskip("torch")
    with pytest.raises(MemoryError) as from_numpy:
        numpy.empty(1 << 60, dtype="u1")
    with pytest.raises(RuntimeError) as from_torch:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(from_numpy.value)
    assert is_out_of_memory(from_torch.value)
