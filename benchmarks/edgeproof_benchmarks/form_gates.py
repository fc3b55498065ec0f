"""Which gates a form has to pass: its own, and those of the student in PyTorch that it was exported from."""

from __future__ import annotations

from collections.abc import Sequence

from edgeproof_benchmarks.report_data import FormRow, Gate


def is_as_trained(row: FormRow) -> bool:
    """Whether a row is of the student as it was trained: in PyTorch, dense, fp32."""
    return (row.form, row.engine, row.precision) == ("student", "pytorch", "fp32")


def own_gates(row: FormRow, rows: Sequence[FormRow]) -> list[Gate]:
    """Return a form's gates, after those of the compressed student in PyTorch that it was exported from.

    The gates of the student as trained hold for every form and are not among them.
    """
    origin = [
        one
        for one in rows
        if one.engine == "pytorch"
        and one is not row
        and not is_as_trained(one)
        and (one.form, one.precision) == (row.form, row.precision)
    ]
    return [gate for one in (*origin, row) for gate in one.gates]


def failed_gates(row: FormRow, rows: Sequence[FormRow]) -> list[Gate]:
    """Return those of `own_gates` that failed."""
    return [gate for gate in own_gates(row, rows) if gate.status == "fail"]
