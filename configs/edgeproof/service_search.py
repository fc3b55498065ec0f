"""`data search URL`: images by a search service, prompt by prompt, so that a stopped search goes on."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof.data_search import earlier_lines
from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import digest_of, read_json, write_json
from edgeproof_configs.progress import progress
from edgeproof_data.paths import counted, some_of
from edgeproof_data.search.manifest import Found, write_manifest
from edgeproof_data.search.rules import Rules
from edgeproof_data.search.service import KnnService


def search_service(
    service: KnnService,
    names: Sequence[str],
    texts: Sequence[str],
    rows_QD: NDArray[np.float32] | None,
    out: Path,
    rules: Rules,
    *,
    append: bool,
    as_json: bool,
) -> int:
    """Ask a service for each prompt, write the manifest, say what was found, and return 0.

    Answers are kept in `OUT.parts` until the manifest is written. An image that several prompts found goes to
    the one that it is nearest to.

    Args:
        service: where to ask.
        names: of the prompts.
        texts: what is asked for each.
        rows_QD: embeddings to ask with in place of the texts.
        out: the manifest.
        rules: how many of each prompt, and from which similarity.
        append: add to the manifest if it is there.
        as_json: print JSON.

    Raises:
        UsageError: the manifest is there already, or a rule has no effect here.
        EdgeproofError: the service does not answer, or not as it should.
    """
    if rules.floor.margin:
        raise UsageError("--margin has no effect with a service: it sends no embeddings", fix="remove it")
    earlier = earlier_lines(out, "url", append)
    parts = out.with_name(f"{out.name}.parts")
    found: list[Found] = []
    without_address = 0
    with progress("search", len(names), "prompts") as shown:
        for place, (name, text) in enumerate(zip(names, texts, strict=True)):
            row = None if rows_QD is None else rows_QD[place].tolist()
            answer = _answer(service, text, row, rules.per_prompt, parts)
            found += [Found(url, name, score, None) for url, score in answer["hits"]]
            without_address += answer["without_address"]
            shown.advance()
    new, doubles = chosen(found, {one.place for one in earlier}, names, rules)
    if not new and not earlier:
        raise DataError("the service found nothing that reaches --floor", where=service.url, fix="lower it")
    write_manifest(out, "url", [*earlier, *new])
    shutil.rmtree(parts, ignore_errors=True)
    counts = Counter(one.prompt for one in new)
    told = {
        "manifest": str(out),
        "images": len(new),
        "per_prompt": {name: counts.get(name, 0) for name in names},
        "without_address": without_address,
        "found_before": doubles,
        "earlier": len(earlier),
    }
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(told)))
    return 0


def chosen(
    found: Sequence[Found], taken: set[str], names: Sequence[str], rules: Rules
) -> tuple[list[Found], int]:
    """Return the lines that the rules leave, by prompt and score, and how many images were found twice."""
    seen, kept = set(taken), []
    enough = [one for one in found if one.score >= rules.floor.score]
    for one in sorted(enough, key=lambda one: (-one.score, one.place, names.index(one.prompt))):
        if one.place not in seen:
            seen.add(one.place)
            kept.append(one)
    by_prompt = {name: [one for one in kept if one.prompt == name][: rules.per_prompt] for name in names}
    if rules.balance is not None:
        fewest = min((len(lines) for lines in by_prompt.values() if lines), default=0)
        most = max(1, int(fewest * rules.balance))
        by_prompt = {name: lines[:most] for name, lines in by_prompt.items()}
    return [one for lines in by_prompt.values() for one in lines], len(enough) - len(kept)


def lines(told: dict[str, Any]) -> list[str]:
    """Return what was found in words."""
    empty = [name for name, count in told["per_prompt"].items() if not count]
    shown = [f"{counted(told['images'], 'image')} for {counted(len(told['per_prompt']), 'prompt')}"]
    if empty:
        shown.append(f"  {counted(len(empty), 'prompt')} without an image: {some_of(empty)}")
    if told["without_address"]:
        shown.append(f"  left out: {told['without_address']}, without a usable address")
    if told["found_before"]:
        shown.append(f"  left out: {told['found_before']}, found for a nearer prompt or before")
    return [*shown, f"manifest: {told['manifest']}; fetch it: edgeproof data download {told['manifest']} OUT"]


def _answer(
    service: KnnService, text: str, row: list[float] | None, count: int, parts: Path
) -> dict[str, Any]:
    """Return hits for a prompt: those that an earlier, stopped search was told, or else the service's."""
    options = asdict(service.options)
    asked = {key: options[key] for key in ("index_name", "deduplicate", "safety")}
    digest = digest_of([service.url, asked, text, row, count])
    file = parts / f"{digest}.json"
    if file.exists():
        return read_json(file)
    answer = service.ask(count, text=text) if row is None else service.ask(count, embedding=row)
    told = {
        "prompt": text,
        "hits": [[hit.url, hit.similarity] for hit in answer.hits],
        "without_address": answer.without_address,
    }
    write_json(file, told)
    return told
