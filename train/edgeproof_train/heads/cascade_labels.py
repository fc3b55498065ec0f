"""Which labels a step of a cascade chooses between, and which it may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeproof_configs.errors import DataError, UsageError, did_you_mean
from edgeproof_data.paths import resolve_path, some_of
from edgeproof_data.prompts import clean_name, read_labels
from edgeproof_train.heads.evidence import Evidence, Rows

Labels = str | tuple[str, ...]
WORDS = ("all", "seen", "unseen", "specialists")
"""Lists of labels that need no file."""


@dataclass(frozen=True)
class Lists:
    """Where lists of labels come from.

    Attributes:
        evidence: its names, and which of them are unseen.
        specialists: the classes of each specialist, by its name.
        product: whether a step has to leave labels to the next ones.
    """

    evidence: Evidence
    specialists: Mapping[str, Sequence[str]]
    product: bool = False

    def rows(self, given: Labels, place: str) -> np.ndarray:
        """Return the positions of some labels, int64, in the order of the names.

        Args:
            given: labels; or `all`, `seen`, `unseen`, `specialists`; or a file with one a line.
            place: of the setting, for an error.

        Raises:
            DataError: a label is not among the names, the list is empty, or there is no such file.
            UsageError: `seen` or `unseen` is asked for where nothing says which those are.
        """
        names = self.evidence.names
        row = {clean_name(name): number for number, name in enumerate(names)}
        wanted = [clean_name(label) for label in self._named(given, place)]
        missing = [label for label in wanted if label not in row]
        if missing:
            raise DataError(
                f"{some_of(missing)}: not among the {len(names)} labels of the head."
                f"{did_you_mean(missing[0], list(row))}",
                where=place,
            )
        if not wanted:
            raise DataError(f"'{given}' names no label", where=place, fix="leave the step out, or name some")
        return np.unique([row[label] for label in wanted])

    def _named(self, given: Labels, place: str) -> Sequence[str]:
        if not isinstance(given, str):
            return given
        names, around = self.evidence.names, self.evidence.around
        if given == "all":
            return names
        if given == "specialists":
            return [label for classes in self.specialists.values() for label in classes]
        if given in ("seen", "unseen"):
            if around is None or not around.unseen:
                raise UsageError(
                    f"'{given}': the data do not say which classes are unseen",
                    where=place,
                    fix="set data.unseen, or name a file with one label a line",
                )
            held_out = {clean_name(name) for name in around.unseen}
            return [name for name in names if (clean_name(name) in held_out) == (given == "unseen")]
        return read_labels(resolve_path(given, None if around is None else around.root))


def narrowed(evidence: Evidence, rows: np.ndarray) -> Evidence:
    """Return the evidence about some of the labels: their shots, words and validation images.

    Images without labels stay: nobody knows which of them are of these labels.
    """
    place = np.full(len(evidence.names), -1, np.int64)
    place[rows] = np.arange(len(rows))

    def of_these(part: Rows | None) -> Rows | None:
        if part is None:
            return None
        kept = place[part.labels] >= 0
        return Rows(part.features[kept], place[part.labels[kept]]) if kept.any() else None

    return replace(
        evidence,
        names=tuple(evidence.names[row] for row in rows),
        shots=of_these(evidence.shots),
        val=of_these(evidence.val),
        text=None if evidence.text is None else evidence.text[rows],
    )
