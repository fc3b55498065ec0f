"""`data render`: views of every mesh below a folder."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import read_json, write_json, write_text
from edgeproof_configs.progress import progress
from edgeproof_data.meshes.cameras import CAMERAS
from edgeproof_data.meshes.mesh import SUFFIXES, MeshError, Up
from edgeproof_data.meshes.render import VERSION, render_to
from edgeproof_data.paths import counted, some_of

SETTINGS = "render.json"
BROKEN = "broken.csv"


class Job(NamedTuple):
    """One mesh: its path below the folder of meshes, its file, and the folder of its views."""

    name: str
    file: Path
    folder: Path


def render_meshes(
    meshes: Path, out: Path, *, views: int, size: int, up: str, workers: int | None, as_json: bool
) -> int:
    """Render what is not there yet; return 0, or 1 where meshes are broken.

    Args:
        meshes: the folder.
        out: of the views, new or of an earlier call with the same settings.
        views: 12 or 20.
        size: side of a view in pixels.
        up: which axis points upwards.
        workers: processes; by default one a core.
        as_json: print JSON.

    Raises:
        UsageError: a setting is unknown, or OUT was rendered otherwise, or holds something else.
        DataError: there is no mesh, or two would have the same views.
    """
    if not meshes.is_dir():
        raise UsageError("there is no such folder", where=meshes, fix="correct the path")
    if views not in CAMERAS:
        raise UsageError(f"--views {views}: expected {' or '.join(map(str, CAMERAS))}")
    if up not in get_args(Up):
        raise UsageError(f"--up {up}: expected {', '.join(get_args(Up))}")
    jobs = jobs_of(meshes, out)
    _same_settings(out, {"version": VERSION, "views": views, "size": size, "up": up})
    for left in out.glob("**/.rendering-*"):
        shutil.rmtree(left, ignore_errors=True)
    to_do = [job for job in jobs if not job.folder.exists()]
    broken: list[tuple[str, str]] = []
    with progress("render meshes", len(to_do), "meshes") as shown:
        for name, reason in _render_all(to_do, views, size, cast("Up", up), workers):
            shown.advance()
            if reason:
                broken.append((name, reason))
    broken.sort()
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("path", "reason"), *broken])
    write_text(out / BROKEN, text.getvalue())
    told = {
        "meshes": len(jobs),
        "views": views,
        "rendered": len(to_do) - len(broken),
        "there_already": len(jobs) - len(to_do),
        "broken": dict(broken),
        "out": str(out),
    }
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(told)))
    return 1 if broken else 0


def jobs_of(meshes: Path, out: Path) -> list[Job]:
    """Return the meshes below a folder, by path, each with the folder of its views: its path without suffix.

    Raises:
        DataError: there is none, or two have the same views.
    """
    files = sorted(file for file in meshes.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    files = [file for file in files if not any(p.startswith(".") for p in file.relative_to(meshes).parts)]
    if not files:
        raise DataError(
            "this folder holds no mesh", where=meshes, fix=f"expected files that end in {', '.join(SUFFIXES)}"
        )
    names = [file.relative_to(meshes) for file in files]
    jobs = [
        Job(name.as_posix(), file, out / name.with_suffix(""))
        for name, file in zip(names, files, strict=True)
    ]
    folders = Counter(job.folder for job in jobs)
    twice = [job.name for job in jobs if folders[job.folder] > 1]
    if twice:
        raise DataError(
            f"meshes whose views would lie in one folder: {some_of(twice)}",
            where=meshes,
            fix="keep one format of each, or rename them",
        )
    return jobs


def _same_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings into a new folder, or check that they are those of an old one."""
    file = out / SETTINGS
    if file.exists():
        before = read_json(file)
        differ = [key for key, value in settings.items() if before.get(key) != value]
        if differ:
            was = ", ".join(f"{key} {before.get(key)}" for key in differ)
            raise UsageError(
                f"these views were rendered otherwise: {was}", where=out, fix="choose another folder"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise UsageError("this folder holds something else", where=out, fix="choose a new folder")
    write_json(file, settings)


def _render_all(
    jobs: Sequence[Job], views: int, size: int, up: Up, workers: int | None
) -> Iterator[tuple[str, str]]:
    """Yield name, and the reason where it is broken, of each mesh as it is done."""
    processes = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if processes <= 1:
        yield from (_render_one(job, views, size, up) for job in jobs)
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        pending = [pool.submit(_render_one, job, views, size, up) for job in jobs]
        yield from (future.result() for future in as_completed(pending))
    finally:
        pool.shutdown(cancel_futures=True)


def _render_one(job: Job, views: int, size: int, up: Up) -> tuple[str, str]:
    try:
        render_to(job.file, job.folder, views=views, size=size, up=up)
    except MeshError as error:
        return job.name, str(error)
    return job.name, ""


def lines(told: dict[str, Any]) -> list[str]:
    """Return what was done in words."""
    there = f", {told['there_already']} there already" if told["there_already"] else ""
    found = [f"{counted(told['rendered'], 'mesh', 'meshes')} rendered, {told['views']} views each{there}"]
    if told["broken"]:
        broken = [f"{name} ({reason})" for name, reason in told["broken"].items()]
        found += [
            f"  {len(broken)} broken: {some_of(broken)}",
            f"    left out; all of them are in {told['out']}/{BROKEN}",
        ]
    return found
