"""`data search`: in a local collection or by a service, for words or for images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof.teacher_choice import TeacherChoice
from edgeproof_configs.errors import UsageError
from edgeproof_data.search.rules import Rules


@dataclass(frozen=True)
class Asked:
    """By what the words are embedded: stored embeddings, or a teacher."""

    text: Path | None
    teacher: TeacherChoice


def run_search(
    collection: str,
    prompts: Path,
    out: Path,
    rules: Rules,
    asked: Asked,
    *,
    safety: str,
    append: bool,
    service: dict[str, Any],
    as_json: bool,
) -> int:
    """Search where the first argument says, and return 0.

    Args:
        collection: a folder, or the URL of a service.
        prompts: a file of words, an image, or a folder of images.
        out: the manifest.
        rules: what is kept.
        asked: by what words are embedded; a service embeds them itself where nothing is given.
        safety: `tagged`, `strict` or `off`.
        append: add to the manifest.
        service: how a service is asked.
        as_json: print JSON.

    Raises:
        UsageError: there is no such file, or an option has no effect here.
    """
    from edgeproof.search_words import is_images, wanted_images, wanted_words

    if not prompts.exists():
        raise UsageError(
            "there is no such file of prompts",
            where=prompts,
            fix="make it: edgeproof data prompts WORDS OUT.txt",
        )
    if out.suffix != ".csv":
        raise UsageError("a manifest is written as .csv", where=out, fix=f"say {out.with_suffix('.csv')}")
    if "://" in collection:
        return _by_service(collection, prompts, out, rules, asked, safety, append, service, as_json)
    from edgeproof.data_search import search_collection

    folder = Path(collection)
    if not folder.is_dir():
        raise UsageError("there is no such collection", where=folder, fix="make it: edgeproof data index")
    if service["index_name"]:
        raise UsageError("--index-name has no effect with a local collection", fix="remove it")
    if is_images(prompts):
        if asked.text is not None:
            raise UsageError("--text has no effect with images to search for", fix="remove it")
        wanted = wanted_images(prompts, asked.teacher, folder)
    else:
        wanted = wanted_words(prompts, asked.text, asked.teacher, folder)
    return search_collection(folder, wanted, out, rules, safety=safety, append=append, as_json=as_json)


def _by_service(
    url: str,
    prompts: Path,
    out: Path,
    rules: Rules,
    asked: Asked,
    safety: str,
    append: bool,
    service: dict[str, Any],
    as_json: bool,
) -> int:
    from edgeproof.search_words import is_images, wanted_words
    from edgeproof.service_search import search_service
    from edgeproof_data.prompts import read_prompts
    from edgeproof_data.search.service import KnnService, ServiceOptions

    if is_images(prompts):
        raise UsageError(
            "a service is asked for words", where=prompts, fix="search a collection here by images"
        )
    if safety == "strict":
        raise UsageError("--safety strict: a service does not tell its tags", fix="say tagged or off")
    options = ServiceOptions(**service, deduplicate=rules.alike is not None, safety=safety != "off")
    rows = None
    texts = {name: own[0] for name, own in read_prompts(prompts).items()}
    if asked.text is not None or asked.teacher.given:
        rows = wanted_words(prompts, asked.text, asked.teacher, None).rows
    return search_service(
        KnnService(url, options),
        list(texts),
        list(texts.values()),
        rows,
        out,
        rules,
        append=append,
        as_json=as_json,
    )
