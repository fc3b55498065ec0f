"""What compression bought, in words: how much faster a form is than dense fp32, and what it lost."""

from __future__ import annotations

from collections.abc import Sequence

from edgeproof_benchmarks.form_gates import failed_gates
from edgeproof_benchmarks.formats import in_a_row, known, significant
from edgeproof_benchmarks.gains import bought_nothing, gain, is_faster, over_rounds, times
from edgeproof_benchmarks.report_data import FormRow


def counterpart(
    row: FormRow, rows: Sequence[FormRow], *, form: str | None = None, precision: str | None = None
) -> FormRow | None:
    """Return the row of the same engine that differs in form or precision alone, or None."""
    wanted = (form or row.form, row.engine, precision or row.precision)
    found = next((one for one in rows if (one.form, one.engine, one.precision) == wanted), None)
    return None if found is row else found


def lost(row: FormRow, base: FormRow) -> float | None:
    """Return the top-1 accuracy of a form less that of another, as a fraction; None without labels."""
    after, before = row.metrics.get("top1"), base.metrics.get("top1")
    return after - before if after is not None and before is not None else None


def level(difference: float | None, whom: str) -> str:
    """Return `0.3 points below its teacher`, from a difference of fractions; nothing where it is unknown."""
    if difference is None or not known(difference):
        return ""
    rounded = round(100 * difference, 1)
    if rounded == 0:
        return f"level with {whom}"
    unit = "point" if abs(rounded) == 1 else "points"
    return f"{abs(rounded):.1f} {unit} {'above' if rounded > 0 else 'below'} {whom}"


def compared_with_dense(row: FormRow, rows: Sequence[FormRow]) -> str:
    """Return `3.1 times faster than fp32 and 0.4 points below it`; nothing of the dense fp32 form itself."""
    base = counterpart(row, rows, form="student", precision="fp32")
    if base is None:
        return ""
    ratio, whom = gain(row, base), "fp32" if row.form == "student" else "dense fp32"
    below = level(lost(row, base), "it")
    if ratio is None:
        return below and level(lost(row, base), whom)
    if not is_faster(row, base):
        return " and ".join(part for part in (slower(row, base, whom), below) if part)
    return " and ".join(part for part in (f"{times(ratio)} times faster than {whom}", below) if part)


def slower(row: FormRow, base: FormRow, whom: str) -> str:
    """Return `INT8 bought nothing here: 0.9 times the speed of fp32`, of two forms that were timed."""
    what = "INT8" if row.precision == "int8" else row.precision.upper()
    if row.precision == "fp32":
        what = "sparsity"
    elif row.form != "student":
        what = f"sparse {what}"
    return f"{what} {bought_nothing(row, base)}: {speed(row, base, whom)}"


def speed(row: FormRow, base: FormRow, whom: str) -> str:
    """Return `1.3 times the speed of fp32 (0.9 to 1.6 over 5 rounds)`, of two forms that were timed."""
    doubt = over_rounds(row, base)
    return f"{times(gain(row, base) or 0.0)} times the speed of {whom}{f' ({doubt})' if doubt else ''}"


def in_brackets(row: FormRow, base: FormRow) -> str:
    """Return `(1.3 times, 0.9 to 1.6 over 5 rounds)`, of two forms that were timed."""
    doubt = over_rounds(row, base)
    return f"({times(gain(row, base) or 0.0)} times{f', {doubt}' if doubt else ''})"


def of_sparsity(row: FormRow, rows: Sequence[FormRow]) -> str:
    """Return what 2:4 weights buy at a row's engine and precision; nothing where that was not timed."""
    dense = row if row.form == "student" else counterpart(row, rows, form="student")
    sparse = row if row.form == "sparse" else counterpart(row, rows, form="sparse")
    ratio = gain(sparse, dense)
    if ratio is None or sparse is None or dense is None or (sparse is row and row.precision == "fp32"):
        return ""
    if not is_faster(sparse, dense):
        return f"sparsity {bought_nothing(sparse, dense)} {in_brackets(sparse, dense)}"
    if sparse is row:
        return f"{times(ratio)} times of that by sparsity"
    return f"sparsity would be {times(ratio)} times faster, but {why_not(sparse, rows)}"


def of_int8(row: FormRow, rows: Sequence[FormRow]) -> str:
    """Return what INT8 buys where the row is not in INT8; nothing where that was not timed."""
    if row.precision == "int8":
        return ""
    other = counterpart(row, rows, precision="int8")
    ratio = gain(other, row)
    if ratio is None or other is None:
        return ""
    if not is_faster(other, row):
        return slower(other, row, row.precision)
    return f"INT8 would be {times(ratio)} times faster, but {why_not(other, rows)}"


def why_not(other: FormRow, rows: Sequence[FormRow]) -> str:
    """Return why a faster form of the same engine is not the one chosen."""
    names = list(dict.fromkeys(gate.name for gate in failed_gates(other, rows)))
    return f"{in_a_row(names) or 'a gate'} failed"


def bought(row: FormRow, rows: Sequence[FormRow]) -> list[str]:
    """Return, for the chosen form, what each step of compression bought and cost in its engine.

    There is nothing to say where no row of the same engine differs from it in form or precision.
    """
    return [
        part for part in (compared_with_dense(row, rows), of_int8(row, rows), of_sparsity(row, rows)) if part
    ]


def disappointments(rows: Sequence[FormRow], spoken_of: FormRow | None) -> list[str]:
    """Return a sentence for each INT8 form that is not faster than fp32 in an engine not spoken of yet."""
    said = []
    for row in rows:
        if row.precision != "int8" or row.form != "student":
            continue
        base = counterpart(row, rows, precision="fp32")
        spoken = spoken_of is not None and spoken_of.engine == row.engine
        if base is None or gain(row, base) is None or spoken or is_faster(row, base):
            continue
        said.append(f"{row.name} {bought_nothing(row, base)}: {speed(row, base, 'fp32')}.")
    return said


def form_sentence(own: Sequence[FormRow], rows: Sequence[FormRow]) -> str:
    """Return what a compressed form bought and cost, engine by engine; nothing of the dense fp32 student.

    Args:
        own: the form's rows, one for each engine.
        rows: of all forms.
    """
    parts = []
    for row in own:
        if row.engine == "pytorch" or (row.form, row.precision) == ("student", "fp32"):
            continue
        said = [compared_with_dense(row, rows), sparsity_beside(row, rows)] if row.ran else [built(row, rows)]
        if any(said):
            parts.append(f"{row.engine_name}: {'; '.join(part for part in said if part)}.")
    failed = list(dict.fromkeys(gate.name for row in own for gate in row.gates if gate.status == "fail"))
    if failed:
        parts.append(f"Not to be shipped: {in_a_row(failed)} failed.")
    return " ".join(parts)


def sparsity_beside(row: FormRow, rows: Sequence[FormRow]) -> str:
    """Return what a sparse form in lower precision buys beside the dense one of the same precision."""
    dense = counterpart(row, rows, form="student")
    ratio = gain(row, dense)
    if row.form != "sparse" or row.precision == "fp32" or ratio is None or dense is None:
        return ""
    words = level(lost(row, dense), "it")
    accuracy = f" and is {words}" if words else ""
    beside = f"beside dense {row.precision}, sparsity"
    if not is_faster(row, dense):
        return f"{beside} {bought_nothing(row, dense)} {in_brackets(row, dense)}{accuracy}"
    return f"{beside} bought {times(ratio)} times{accuracy}"


def built(row: FormRow, rows: Sequence[FormRow]) -> str:
    """Return how large a file that did not run here is, beside that of dense fp32."""
    base = counterpart(row, rows, form="student", precision="fp32")
    if base is None or not base.size_bytes or not row.size_bytes:
        return row.status
    return f"{significant(row.size_bytes / base.size_bytes, 2)} times the bytes of fp32 ({row.status})"
