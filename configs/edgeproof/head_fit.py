"""`head fit`: heads of several kinds on embeddings that are there, and what each reaches on test."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from edgeproof_configs.errors import UsageError, did_you_mean
from edgeproof_configs.files import write_json

if TYPE_CHECKING:
    from edgeproof_configs.schema import HeadConfig
    from edgeproof_train.head_trials import FeatureSets, Trial

TASKS = 10
FOLDER = "heads"
PROTOCOLS = ("few", "full", "none")
SIDES = ("teacher", "student")


@dataclass(frozen=True)
class Asked:
    """What trials were asked for, as on the command line; `seed` is of the first draw."""

    kinds: str
    on: str
    shots: str
    tasks: int | None
    seed: int
    val: str
    use_text: bool


def head_fit(
    place: str,
    asked: Asked,
    *,
    out: Path | None = None,
    run: Path | None = None,
    overrides: list[str] | None = None,
    device: str | None = None,
    as_json: bool = False,
) -> int:
    """Fit and score heads, print the table, write the figures and return 0.

    Args:
        place: a recipe, or an .npz file with features.
        asked: which heads, shots and draws.
        out: where figures go; `RUN/heads/fit-SIDE.json` unless given, and nowhere for a file.
        run: the run directory of a recipe.
        overrides: `key=value` settings of the recipe.
        device: where torch works.
        as_json: print JSON.

    Raises:
        UsageError: a kind, number or option that cannot be.
        DataError: features cannot be used.
    """
    for value, known, option in ((asked.on, SIDES, "--on"), (asked.val, PROTOCOLS, "--val")):
        if value not in known:
            raise UsageError(f"unknown value '{value}', expected one of {', '.join(known)}", where=option)
    counts = shots_of(asked.shots)
    stored = place.endswith(".npz")
    if stored and (run or overrides):
        raise UsageError("--run and --set have no effect on a file of features", where=place)
    heads = heads_of(asked.kinds)
    with redirect_stdout(sys.stderr):
        if stored:
            from edgeproof.feature_sources import of_file

            sets = of_file(Path(place))
        else:
            from edgeproof.feature_sources import of_recipe

            sets, folder = of_recipe(place, asked.on, overrides or [], run, device)
            out = out or folder / FOLDER / f"fit-{asked.on}.json"
        found = trials(sets, heads, counts, asked, stored)
    told = {
        "features": place,
        "asked": asdict(asked),
        "protocol": protocol_words(sets, asked, stored),
        "rows": [one.to_dict() for one in found],
    }
    if out is not None:
        write_json(out, told)
    print(json.dumps(told, indent=2) if as_json else "\n".join([*table(found), "", told["protocol"]]))
    if out is not None and not as_json:
        print(f"figures: {out}")
    return 0


def trials(
    sets: FeatureSets,
    heads: Mapping[str, HeadConfig],
    counts: Sequence[int | None],
    asked: Asked,
    stored: bool,
) -> list[Trial]:
    """Run the trials.

    Raises:
        UsageError: several draws are asked for where there is one.
    """
    from dataclasses import replace

    from edgeproof_train.head_trials import run_trials

    drawn = not stored or (asked.tasks or 1) > 1
    largest = max(sets.stored, default=0)
    if stored and drawn and any(count is None or count >= largest for count in counts):
        raise UsageError(
            f"--tasks {asked.tasks}: of {largest} stored shots a class there is one draw only",
            fix=f"--tasks 1, or --shots below {largest}",
        )
    protocol: Any = asked.val

    def report(kind: str, count: int | None) -> None:
        print(f"{kind}, {count or 'all'} shots", flush=True)

    return run_trials(
        sets if asked.use_text else replace(sets, text=None),
        heads,
        counts,
        tasks=asked.tasks or (1 if stored or counts == [None] else TASKS),
        seed=asked.seed,
        protocol=protocol,
        drawn=drawn,
        report=report,
    )


def shots_of(text: str) -> list[int | None]:
    """Return numbers of shots; None for `all`.

    Raises:
        UsageError: it is no list of numbers.
    """
    found: list[int | None] = []
    for word in text.split(","):
        if word.strip() == "all":
            found.append(None)
        elif word.strip().isdecimal() and int(word) > 0:
            found.append(int(word))
        else:
            raise UsageError(f"'{word}' is no number of shots", where="--shots", fix="--shots 1,2,4 or all")
    return list(dict.fromkeys(found))


def heads_of(text: str) -> dict[str, HeadConfig]:
    """Return the configs of heads by the words that name them: `gda`, `gda:use_text=false`, `all`.

    Raises:
        UsageError: there is no such kind, or it has no such setting.
    """
    from edgeproof_configs.registry import discover
    from edgeproof_train.heads.fitted import FittedKind

    known: dict[str, Any] = {
        kind: found
        for kind, found in discover("head").items()
        if kind == "zero_shot" or issubclass(found, FittedKind)
    }
    if text == "all":
        # A kind that cannot do without settings, as an ensemble its members, has to be named with them.
        free = {
            kind: found
            for kind, found in known.items()
            if not any(field.is_required() for field in found.Config.model_fields.values())
        }
        return {kind: found.Config() for kind, found in free.items()}
    made: dict[str, HeadConfig] = {}
    for words in text.split(","):
        kind, *settings = words.strip().split(":")
        if kind not in known:
            raise UsageError(
                f"unknown head '{kind}'.{did_you_mean(kind, list(known))} Known: {', '.join(known)}"
            )
        given = {key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in settings)}
        try:
            made[words.strip()] = known[kind].Config(**given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"head {kind}: {where}: {first['msg']}", where=words.strip()) from error
    return made


def table(found: Sequence[Trial]) -> list[str]:
    """Return a line for each kind and number of shots: top-1 with its interval, per class, time of a fit."""
    generalised = any("harmonic_mean" in one.figures for one in found)
    metrics = ["top1", "mean_per_class", *(["seen", "unseen", "harmonic_mean"] if generalised else [])]
    names = {"top1": "top-1 %", "mean_per_class": "per class %", "seen": "S %", "unseen": "U %"}
    cells = [["head", "shots", *(names.get(metric, "H %") for metric in metrics), "fit s"]]
    for one in found:
        start = [one.kind + (" *" if one.transductive else ""), str(one.shots or "all")]
        if one.reason:
            cells.append([*start, f"n/a: {one.reason}"])
        else:
            seconds = sum(one.seconds) / len(one.seconds)
            cells.append([*start, *(percent(one, metric) for metric in metrics), f"{seconds:.2f}"])
    filled = [row for row in cells if len(row) > 3]
    widths = [max(len(row[place]) for row in filled) for place in range(len(cells[0]))]
    widths[0] = max(len(row[0]) for row in cells)
    return [line(row, widths) for row in cells]


def line(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells as one line: names to the left, figures to the right."""
    start = f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}"
    if len(row) == 3:
        return f"{start}  {row[2]}"
    return "  ".join([start, *(f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True))])


def percent(one: Trial, metric: str) -> str:
    """Return a mean in percent, with half its 95 % interval where there are several draws."""
    if metric not in one.figures:
        return "-"
    mean, half = one.summary(metric)
    return f"{100 * mean:.2f}" + ("" if half is None else f" ± {100 * half:.2f}")


def protocol_words(sets: FeatureSets, asked: Asked, stored: bool) -> str:
    """Return in a line how the figures came about."""
    several = (asked.tasks or (1 if stored else TASKS)) > 1
    draws = (
        f"{asked.tasks or TASKS} draws of shots from seed {asked.seed} on, mean ± half of the 95 % interval"
        if several
        else "one draw of shots, no interval"
    )
    val = {
        "few": "settings chosen on as many val images a class as shots, at most 4",
        "full": "settings chosen on all of val",
        "none": "settings not chosen: defaults",
    }[asked.val if sets.val is not None else "none"]
    text = "with text embeddings" if asked.use_text and sets.text is not None else "no text embeddings"
    of = f"{len(sets.test.labels)} test images of {len(sets.names)} classes, scored once a draw"
    return f"{draws}; {val}; {text}; {of}. * transductive: it saw the test images without their labels."
