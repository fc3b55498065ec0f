"""How well each kind of head does on few labelled images, and whether `auto` finds the best.

Top-1 on test images that no head was chosen on. Two protocols: `few`, as many validation images of a class as
there are shots, four at most, the mean over several draws of them; and `full`, all of them. Each set has one
draw of shots; the interval of a figure is that of its test images alone. Kinds that adapt to the test images,
without their labels, are marked as transductive and stand beside the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.head_sets import SHOTS, FewShotSet, made_up_sets, read_nouns, read_sets
from edgeproof_benchmarks.head_studies import generalised_study, imbalance_study, open_vocabulary
from edgeproof_benchmarks.record import keep, parser, table_of
from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import component_class, discover
from edgeproof_configs.schema import HeadConfig
from edgeproof_train.heads.fitted import FittedKind
from edgeproof_train.heads.fitting import fit_kind, why_not

PROTOCOLS = ("few", "full")
NOT_ALONE = ("cascade", "ensemble", "gallery")
"""Kinds that are made of others, which a recipe names, and the one for objects."""

Cells = dict[tuple[str, str, str, int], float]
"""Top-1 in % by set, protocol, kind and shots."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Fit every kind on every set, print the table and keep it."""
    options_parser = parser("heads", __doc__)
    options_parser.add_argument("--data", type=Path, help="folder of the packs fewshot_b32, caltech_clip_b32")
    options_parser.add_argument("--kinds", nargs="+", metavar="KIND", help="these only; all if not given")
    options_parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS), choices=SHOTS)
    options_parser.add_argument("--draws", type=int, default=3, help="draws of few validation images")
    options = options_parser.parse_args(arguments)
    if options.data is None and not options.quick:
        options_parser.error("give --data DIR, or --quick for made-up embeddings")
    if options.quick:
        options.shots, options.draws = options.shots[:2], 1
    sets = made_up_sets() if options.data is None else read_sets(options.data)
    kinds = options.kinds or [kind for kind in listed_kinds() if kind not in NOT_ALONE]
    cells, reasons = measured(sets, kinds, options)
    print("\n".join(lines_of(cells, sets, kinds, options.shots)))
    figures = {"top1_percent": nested(cells), "not_applicable": reasons}
    if "auto" in kinds:
        figures["auto"] = auto_against_fixed(cells)
    if options.data is not None:
        figures["open_vocabulary"] = open_vocabulary(*read_nouns(options.data), sets[1])
    known = [kind for kind in kinds if kind != "auto" and not is_transductive(kind)]
    figures["generalised"] = generalised_study(sets[0], known, options.shots)
    figures["imbalance"] = imbalance_study(sets[0], draws=1 if options.quick else 10)
    settings = {
        "sets": {one.name: {"classes": len(one.names), "test": len(one.test.labels)} for one in sets},
        "shots": options.shots,
        "draws_of_few_validation": options.draws,
        "transductive": [kind for kind in kinds if is_transductive(kind)],
    }
    return keep(*(options, "heads", arguments), settings=settings, latencies={}, ratios={}, figures=figures)


def listed_kinds() -> list[str]:
    """Return the kinds that are fitted, and `zero_shot`."""
    return ["zero_shot", *(kind for kind, found in discover("head").items() if issubclass(found, FittedKind))]


def is_transductive(kind: str) -> bool:
    """Whether a kind looks at the images that it is asked about."""
    return getattr(component_class("head", kind), "transductive", False)


def measured(sets: Sequence[FewShotSet], kinds: Sequence[str], options: Any) -> tuple[Cells, dict[str, str]]:
    """Return top-1 of every kind where it can be fitted, and why it was not elsewhere."""
    cells: Cells = {}
    reasons: dict[str, str] = {}
    for one in sets:
        for kind in kinds:
            config: HeadConfig = component_class("head", kind).__dict__["Config"]()
            for shots in options.shots:
                for protocol in PROTOCOLS:
                    try:
                        cells[one.name, protocol, kind, shots] = top1(one, config, shots, protocol, options)
                    except DataError as error:
                        reasons[f"{one.name}: {kind}"] = error.what
    return cells, reasons


def top1(one: FewShotSet, config: HeadConfig, shots: int, protocol: str, options: Any) -> float:
    """Return top-1 on test in %, the mean over draws of few validation images.

    Raises:
        DataError: the kind cannot be fitted on this set.
    """
    draws = options.draws if protocol == "few" else 1
    found = []
    for seed in range(draws):
        val = one.few_val(shots, seed) if protocol == "few" else one.val
        evidence = one.evidence(shots, val, unlabelled=is_transductive(config.kind))
        reason = why_not(config, evidence)
        if reason:
            raise DataError(f"{config.kind} {reason}")
        head = fit_kind(config, evidence).head
        found.append(100 * float((head(one.test.features).argmax(axis=1) == one.test.labels).mean()))
    return float(np.mean(found))


@dataclass(frozen=True)
class Lag:
    """How far `auto` lies behind the kind that is best on the mean over sets and shots, in points.

    Attributes:
        best: that kind.
        best_mean: its mean top-1 in %.
        auto_mean: that of `auto`.
        worst: the largest lag in one set at one number of shots, and where.
    """

    best: str
    best_mean: float
    auto_mean: float
    worst: float
    worst_at: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain = {
            key: round(value, 3) if isinstance(value, float) else value for key, value in vars(self).items()
        }
        return plain | {"behind": round(self.best_mean - self.auto_mean, 3)}


def auto_against_fixed(cells: Cells) -> dict[str, Any]:
    """Compare `auto` with the best fixed kind, for each protocol: over all sets, and over those with text.

    A kind counts where it can be fitted on all of the sets that are compared; one that is transductive has
    seen more than `auto` and is left out.
    """
    found = {}
    for protocol in PROTOCOLS:
        with_text = {one for one, _, kind, _ in cells if kind == "zero_shot"}
        for scope, chosen in (("all sets", None), ("sets with text", with_text), ("sets without", "others")):
            places = sorted(
                {
                    (one, shots)
                    for one, which, kind, shots in cells
                    if kind == "auto"
                    and which == protocol
                    and (chosen is None or (one in with_text) == (chosen != "others"))
                }
            )
            if places:
                found[f"{protocol}, {scope}"] = lag(cells, protocol, places).to_dict()
    return found


def lag(cells: Cells, protocol: str, places: Sequence[tuple[str, int]]) -> Lag:
    """Return how far `auto` lies behind in some sets at some numbers of shots."""
    kinds = {kind for _, _, kind, _ in cells if kind != "auto" and not is_transductive(kind)}
    rows = {
        kind: [cells.get((one, protocol, kind, shots), np.nan) for one, shots in places] for kind in kinds
    }
    means = {kind: float(np.mean(row)) for kind, row in rows.items() if not np.isnan(row).any()}
    best = max(sorted(means), key=lambda kind: means[kind])
    own = [cells[one, protocol, "auto", shots] for one, shots in places]
    behind = np.array(rows[best]) - own
    worst = int(behind.argmax())
    one, shots = places[worst]
    return Lag(best, means[best], float(np.mean(own)), float(behind[worst]), f"{one}, {shots} shots")


def nested(cells: Cells) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return the cells as plain data: set, protocol, kind, shots."""
    found: dict[str, Any] = {}
    for (one, protocol, kind, shots), value in cells.items():
        by_kind = found.setdefault(one, {}).setdefault(protocol, {})
        by_kind.setdefault(kind, {})[str(shots)] = round(value, 2)
    return found


def lines_of(
    cells: Cells, sets: Sequence[FewShotSet], kinds: Sequence[str], shots: Sequence[int]
) -> list[str]:
    """Return a table for each set: kinds down, shots across, under both protocols."""
    lines: list[str] = []
    for one in sets:
        head = [f"{one.name}, top-1 %", *(f"{count} {which}" for which in PROTOCOLS for count in shots)]
        rows = [head]
        for kind in kinds:
            values = [cells.get((one.name, which, kind, count)) for which in PROTOCOLS for count in shots]
            if any(value is not None for value in values):
                mark = f"{kind} (transductive)" if is_transductive(kind) else kind
                rows.append([mark, *("-" if value is None else f"{value:.2f}" for value in values)])
        lines += [*table_of(rows), ""]
    return lines


if __name__ == "__main__":
    main()
