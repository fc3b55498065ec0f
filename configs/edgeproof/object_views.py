"""`data views`: some views of each object, as a table or as links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast, get_args

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.kept_views import How, choose_views, write_kept
from edgeproof_data.object_trees import find_objects
from edgeproof_data.paths import counted, some_of
from edgeproof_data.seen_unseen import link_label_lists, link_views

TOO_FEW = ("refuse", "leave_out")


def keep_views(
    folder: Path, out: Path, *, keep: int, how: str, too_few: str, seed: int, as_json: bool
) -> int:
    """Choose views of each object, write them down, say what there is, and return 0.

    Args:
        folder: of the objects, in any layout.
        out: a new table if it ends in `.csv`, else a new folder with the same tree as links.
        keep: views of each object.
        how: `random` or `even`.
        too_few: `refuse` objects with fewer views, or `leave_out`.
        seed: of a random choice.
        as_json: print JSON.

    Raises:
        UsageError: there is no such folder, OUT exists, or a word is unknown.
        DataError: objects have fewer views.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=folder, fix="correct the path")
    if out.exists():
        raise UsageError("this exists and is not overwritten", where=out, fix="choose another name")
    for name, value, known in (("--how", how, get_args(How)), ("--too-few", too_few, TOO_FEW)):
        if value not in known:
            raise UsageError(f"{name} {value}: expected {' or '.join(known)}")
    if how == "even" and seed:
        raise UsageError("--seed has no effect with --how even", fix="remove it")
    objects = find_objects(folder).objects
    few = [f"{found.path} ({len(found.views)})" for found in objects if len(found.views) < keep]
    if few and (too_few == "refuse" or len(few) == len(objects)):
        raise DataError(
            f"{counted(len(few), 'object')} with fewer than {keep} views: {some_of(few)}",
            where=folder,
            fix="--keep fewer, or --too-few leave_out",
        )
    kept = choose_views(
        [found for found in objects if len(found.views) >= keep], keep, cast("How", how), seed
    )
    if out.suffix == ".csv":
        write_kept(out, kept)
        setting = f"--set data.root={folder.absolute()} --set data.kept_views={out.absolute()}"
    else:
        for found in kept:
            link_views(folder.absolute(), found, out / found.path)
        link_label_lists(folder.absolute(), out)
        setting = f"--set data.root={out.absolute()}"
    told = {"objects": len(kept), "views": keep, "how": how, "seed": seed, "left_out": few, "out": str(out)}
    left = [f"left out {counted(len(few), 'object')} with fewer: {some_of(few)}"] if few else []
    words = [f"{keep} views of each of {counted(len(kept), 'object')}", *left, setting]
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(words))
    return 0
