"""Choosing among images without labels those that fit some words, and leaving out what is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeproof_configs.schema import CurateConfig
from edgeproof_data.alike import Vectors, alike_groups
from edgeproof_data.check import scan
from edgeproof_data.cleaning.cleaning import SAME_BYTES, SAME_LOOK, SAME_MEANING, Removed, Sieve
from edgeproof_data.paths import counted
from edgeproof_data.search.exact import Floor, Matches, best_matches
from edgeproof_data.search.rules import Rules, choose
from edgeproof_data.sets import SPLITS, ImageSet, SplitName
from edgeproof_data.split_table import Entry

FAR, OTHER, OVER = "far from every word", "nearer to other words", "over per_word or balance"


@dataclass(frozen=True)
class Fitting:
    """Images and the words that they fit, by part; a part with labels stays as it is.

    Attributes:
        images: those that can be read.
        caches: their embeddings, in the same order.
        matches: of the parts without labels: images that fit a word.
        entries: all that are left to be looked at, with the word, or the class, of each.
        scores: cosine of each image of a part without labels with the word that fits it best.
        unfit: images that fit no word well enough, or a word of the vocabulary better.
    """

    images: dict[SplitName, ImageSet]
    caches: dict[SplitName, Vectors]
    matches: dict[SplitName, Matches]
    entries: list[Entry]
    scores: NDArray[np.float64]
    unfit: list[Removed]

    @classmethod
    def of(
        cls,
        images: dict[SplitName, ImageSet],
        caches: dict[SplitName, Vectors],
        words: tuple[str, ...],
        others: tuple[str, ...],
        queries_QD: NDArray[np.float32],
        config: CurateConfig,
    ) -> Fitting:
        """Look for the word that fits each image best.

        Args:
            images: those that can be read, by part.
            caches: their embeddings, in the same order.
            words: that images may stay for.
            others: words that images must not fit better.
            queries_QD: the embeddings of all these.
            config: what has to be reached.
        """
        floor = Floor(config.floor, config.margin)
        matches: dict[SplitName, Matches] = {}
        entries: list[Entry] = []
        unfit: list[Removed] = []
        scores: list[NDArray[np.float64]] = []
        for part, found in images.items():
            if (found.labels >= 0).any():
                names = [found.class_names[label] if label >= 0 else "" for label in found.labels]
                entries += [Entry(path, part, name) for path, name in zip(found.paths, names, strict=True)]
                continue
            every = best_matches(caches[part], queries_QD, len(found))
            scores.append(every.scores)
            every = every.take(np.argsort(every.rows))
            near, own = floor.passed(every), every.queries < len(words)
            unfit += refused(every.take(~near), FAR, found, part, (*words, *others))
            unfit += refused(every.take(near & ~own), OTHER, found, part, (*words, *others))
            mine = matches[part] = every.take(near & own)
            entries += [
                Entry(found.paths[row], part, words[query])
                for row, query in zip(mine.rows.tolist(), mine.queries.tolist(), strict=True)
            ]
        return cls(images, caches, matches, entries, np.concatenate(scores), unfit)

    @property
    def searched(self) -> dict[SplitName, int]:
        """How many images of each part were looked at."""
        return {part: len(found) for part, found in self.images.items()}

    @property
    def settled(self) -> set[SplitName]:
        """The parts that have labels, whose images all stay."""
        return {part for part in SPLITS if part not in self.matches}


def refused(
    found: Matches, reason: str, images: ImageSet, part: SplitName, words: Sequence[str]
) -> list[Removed]:
    """Return images that are not taken, with the word that fits each best and how well."""
    return [
        Removed(Entry(images.paths[row], part, ""), reason, f"{words[query]} {score:.4f}")
        for row, query, score in zip(
            found.rows.tolist(), found.queries.tolist(), found.scores.tolist(), strict=True
        )
    ]


def sieved(found: Fitting, config: CurateConfig) -> tuple[list[Entry], list[Removed]]:
    """Return the images without broken ones, small ones, and twins; and what was taken out.

    Of twins in several parts the one stays that is tested on; what somebody labelled stays in any case.
    """
    by_part: dict[SplitName, list[str]] = {
        part: [one.path for one in found.entries if one.part == part] for part in SPLITS
    }
    sets = {part: chosen(found.images[part], paths) for part, paths in by_part.items() if paths}
    report = scan(sets, smallest_side=config.smallest_side, near=config.near)
    sieve = Sieve(found.entries, found.settled)
    sieve.take_out_unusable(report)
    sieve.take_out_twins(report.duplicates, SAME_BYTES)
    sieve.take_out_twins(report.near_duplicates or [], SAME_LOOK)
    if config.alike is not None:
        paths = [one.path for one in sieve.kept]
        groups = alike_groups(Joined.of(found, sieve.kept), config.alike)
        sieve.take_out_twins([[paths[place] for place in group] for group in groups], SAME_MEANING)
    result = sieve.result()
    return result.kept, result.removed


def chosen(images: ImageSet, paths: Sequence[str]) -> ImageSet:
    """Return some images of a set, by path."""
    place = {path: index for index, path in enumerate(images.paths)}
    return images.subset([place[path] for path in paths])


@dataclass(frozen=True)
class Joined:
    """The embeddings of some images of several parts, as `Vectors`: the cache of each, and its row there."""

    caches: list[Vectors]
    parts: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, found: Fitting, entries: Sequence[Entry]) -> Joined:
        """Return those of some entries, in their order."""
        parts = list(found.images)
        place = {
            (part, path): (number, row)
            for number, part in enumerate(parts)
            for row, path in enumerate(found.images[part].paths)
        }
        both = np.array([place[one.part, one.path] for one in entries], np.int64).reshape(-1, 2)
        return cls([found.caches[part] for part in parts], both[:, 0], both[:, 1])

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, indices: ArrayLike, /) -> NDArray[np.float32]:
        """Return the rows at some positions, (n, D)."""
        wanted = np.asarray(indices, np.int64)
        blocks, order = [], []
        for number, cache in enumerate(self.caches):
            ours = np.flatnonzero(self.parts[wanted] == number)
            if len(ours):
                blocks.append(cache.rows(self.places[wanted[ours]]))
                order.append(ours)
        return np.concatenate(blocks)[np.argsort(np.concatenate(order))]


@dataclass(frozen=True)
class Leading:
    """The first values of each row, as unit vectors: of several teachers' those that the words are of."""

    vectors: Vectors
    dim: int

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, indices: ArrayLike, /) -> NDArray[np.float32]:
        """Return the rows at some positions, (n, D)."""
        part = self.vectors.rows(indices)[:, : self.dim]
        return part / np.linalg.norm(part, axis=1, keepdims=True)


def evened_out(
    found: Fitting, cleaned: list[Entry], config: CurateConfig
) -> tuple[list[Entry], list[Removed], dict[str, int]]:
    """Return the images with at most so many training images of a word; the others; and how many by rule."""
    if config.per_word is None and config.balance is None:
        return cleaned, [], {"over_cap": 0, "over_balance": 0}
    images, left = found.images["train"], {one.path for one in cleaned if one.part == "train"}
    matches = found.matches["train"]
    matches = matches.take(np.array([images.paths[row] in left for row in matches.rows], bool))
    rules = Rules(config.per_word or len(images), Floor(), balance=config.balance)
    choice = choose(matches, images.paths, found.caches["train"], rules)
    stays = {images.paths[row] for row in choice.kept.rows}
    kept = [one for one in cleaned if one.part != "train" or one.path in stays]
    over = [Removed(one, OVER, "") for one in cleaned if one.part == "train" and one.path not in stays]
    return kept, over, {"over_cap": choice.over_cap, "over_balance": choice.over_balance}


def told_of(
    found: Fitting,
    words: tuple[str, ...],
    kept: Sequence[Entry],
    removed: Sequence[Removed],
    capped: dict[str, int],
    unreadable: int,
) -> dict[str, Any]:
    """Return what was done as plain data."""
    counts = Counter(one.label for one in kept if one.part == "train")
    per_word = {name: counts.get(name, 0) for name in words}
    return {
        "searched": found.searched,
        "kept": dict(Counter(one.part for one in kept)),
        "settled": sorted(found.settled),
        "unreadable": unreadable,
        "cosine": cosines_of(found),
        "far": sum(one.reason == FAR for one in found.unfit),
        "other_words": sum(one.reason == OTHER for one in found.unfit),
        "removed": dict(Counter(one.reason for one in removed)),
        "leaks": dict(Counter(f"{one.entry.part} in {one.part}" for one in removed if one.leaked)),
        **capped,
        "per_word": per_word,
        "empty_words": [name for name, count in per_word.items() if not count],
    }


def cosines_of(found: Fitting) -> dict[str, float]:
    """Return how well images fit their best word: percentiles of the cosine, as `p5`, `p50` and so on."""
    wanted = (5, 25, 50, 75, 95)
    values = np.percentile(found.scores, wanted).round(4).tolist()
    return {f"p{percent}": value for percent, value in zip(wanted, values, strict=True)}


def said(metrics: Mapping[str, Any]) -> str:
    """Return the same in a line."""
    chosen_from = [part for part in metrics["searched"] if part not in metrics["settled"]]
    searched = sum(metrics["searched"][part] for part in chosen_from)
    kept = sum(metrics["kept"].get(part, 0) for part in chosen_from)
    with_some = len(metrics["per_word"]) - len(metrics["empty_words"])
    out = ", ".join(f"{count} {reason}" for reason, count in reasons_of(metrics).items())
    cosine = metrics["cosine"]
    fit = f"; cosine with the best word {cosine['p5']:.2f} to {cosine['p95']:.2f} (5 to 95 %)"
    taken = f"{kept} of {searched} images for {counted(with_some, 'word')}"
    return taken + (f"; not {out}" if out else "") + fit


def reasons_of(metrics: Mapping[str, Any]) -> dict[str, int]:
    """Return how many images were not taken, by reason in words."""
    reasons = {
        "unreadable": metrics["unreadable"],
        FAR: metrics["far"],
        OTHER: metrics["other_words"],
        **metrics["removed"],
        "more than per_word": metrics["over_cap"],
        "more than balance": metrics["over_balance"],
    }
    return {reason: count for reason, count in reasons.items() if count}
