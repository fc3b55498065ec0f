"""`head fit`: heads of several kinds on embeddings that are there, and what each reaches on test."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeproof.head_kinds import heads_of
from edgeproof.head_table import notes_of, protocol_words, table
from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import write_json

if TYPE_CHECKING:
    from edgeproof_configs.schema import HeadConfig
    from edgeproof_train.head_trials import FeatureSets, Trial

TASKS = 10
SHOTS = "1,2,4,8,16"
FOLDER = "heads"
PROTOCOLS = ("few", "full", "none")
SIDES = ("teacher", "student")


@dataclass(frozen=True)
class Asked:
    """What trials were asked for, as on the command line; `seed` is of the first draw.

    Without `shots` they are those of `SHOTS` that there are.
    """

    kinds: str
    on: str
    shots: str | None
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
        DataError: features cannot be used, or no head could be fitted.
    """
    for value, known, option in ((asked.on, SIDES, "--on"), (asked.val, PROTOCOLS, "--val")):
        if value not in known:
            raise UsageError(f"unknown value '{value}', expected one of {', '.join(known)}", where=option)
    counts = shots_of(asked.shots or SHOTS)
    stored = place.endswith(".npz")
    if stored:
        idle = {"--run": run, "--set": overrides, "--device": device, "--on": asked.on != SIDES[0]}
        refuse_idle(place, idle)
    heads = heads_of(asked.kinds)
    if out is not None:
        check_out(out)
    with redirect_stdout(sys.stderr):
        if stored:
            from edgeproof.feature_sources import of_file

            sets = of_file(Path(place), asked.use_text)
        else:
            from edgeproof.feature_sources import of_recipe

            sets, folder = of_recipe(place, asked.on, overrides or [], run, device)
            out = out or folder / FOLDER / f"fit-{asked.on}.json"
        found = trials(sets, heads, counts, asked, stored)
    notes = notes_of(sets, found)
    told = {
        "features": place,
        "asked": asdict(asked),
        "protocol": protocol_words(sets, found, asked.seed, asked.use_text),
        "notes": notes,
        "rows": [one.to_dict() for one in found],
    }
    if out is not None:
        write_json(out, told)
    lines = [*table(found), "", *(f"note: {note}" for note in notes), told["protocol"]]
    print(json.dumps(told, indent=2) if as_json else "\n".join(lines))
    if out is not None and not as_json:
        print(f"figures: {out}")
    if all(one.reason for one in found):
        raise DataError("no head could be fitted", where=place, fix="see the reason beside each of them")
    return 0


def refuse_idle(place: str, options: Mapping[str, Any]) -> None:
    """Refuse options that have no effect on a file of features.

    Raises:
        UsageError: some are given.
    """
    given = [option for option, value in options.items() if value]
    if given:
        have = "has" if len(given) == 1 else "have"
        raise UsageError(
            f"{' and '.join(given)} {have} no effect on a file of features", where=place, fix="leave it out"
        )


def check_out(out: Path) -> None:
    """Refuse a place where the figures could not be written, before anything is fitted.

    Raises:
        UsageError: a folder is there, or a file where a folder has to be.
    """
    above = next((folder for folder in out.parents if folder.exists()), None)
    if out.is_dir():
        raise UsageError("a folder is there", where=f"--out {out}", fix="name a file: FILE.json")
    if above is not None and not above.is_dir():
        raise UsageError(f"{above} is a file, not a folder", where=f"--out {out}", fix="choose another place")


def trials(
    sets: FeatureSets,
    heads: Mapping[str, HeadConfig],
    counts: Sequence[int | None],
    asked: Asked,
    stored: bool,
) -> list[Trial]:
    """Run the trials.

    Raises:
        UsageError: there are not as many shots, or several draws are asked for where there is one, or a seed
            of draws where nothing is drawn.
    """
    from edgeproof_train.head_trials import run_trials

    sets = sets if asked.use_text else replace(sets, text=None)
    drawn = not stored or (asked.tasks or 1) > 1
    largest = max(sets.stored, default=0)
    if asked.shots is None:
        most = int(sets.per_class(None, drawn).max()) - (stored and drawn)
        counts = [count for count in counts if count is None or count <= max(1, most)]
    if stored and drawn and any(count is None or count >= largest for count in counts):
        raise UsageError(
            f"--tasks {asked.tasks}: of {largest} stored shots a class there is one draw only",
            fix=f"--tasks 1, or --shots below {largest}",
        )
    refuse_too_many(sets, counts, asked.tasks, drawn)
    protocol: Any = asked.val
    if stored and asked.seed and not any(sets.by_seed(count, protocol, drawn) for count in counts):
        refuse_idle("--shots and --val as given: nothing is drawn", {"--seed": asked.seed})

    def report(kind: str, count: int | None) -> None:
        print(f"{kind}, {count or 'all'} shots", flush=True)

    return run_trials(
        sets,
        heads,
        counts,
        tasks=asked.tasks or (1 if stored else TASKS),
        seed=asked.seed,
        protocol=protocol,
        drawn=drawn,
        report=report,
    )


def refuse_too_many(sets: FeatureSets, counts: Sequence[int | None], tasks: int | None, drawn: bool) -> None:
    """Refuse more shots than any class has, and several draws where there are only those of all images.

    Raises:
        UsageError: it is so.
    """
    for count in counts:
        most = int(sets.per_class(count, drawn).max())
        if count is not None and count > most:
            raise UsageError(
                f"no class has {count} labelled images to draw: the most are {most}",
                where="--shots",
                fix=f"--shots {most} or fewer, or all",
            )
    if tasks is not None and tasks > 1 and all(sets.one_draw(count, drawn) for count in counts):
        raise UsageError(
            f"--tasks {tasks}: of all images there is one draw only", fix="--tasks 1, or fewer --shots"
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
