"""`verify` of a bundle, on this machine: nothing is needed but the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeproof_configs.errors import UsageError
from edgeproof_deploy.bundle import read_bundle, verify_bundle
from edgeproof_deploy.bundle_parity import BundleParity, check_bundle
from edgeproof_deploy.gates import FAIL, NOT_MEASURED
from edgeproof_deploy.parity import PairParity
from edgeproof_deploy.parity_report import Parity


@dataclass(frozen=True)
class VerifyOptions:
    """What `verify` writes besides, and on what it compares.

    Attributes:
        junit: where to write JUnit XML.
        github: write a summary and annotations for GitHub Actions.
        bisect: name the node of the graph at which two engines part.
        images: of a bundle: a folder of images to compare on.
        engines: of a bundle: compare these only; none: all that run here.
        threads: of a bundle: within one operator.
        rebuild: of a bundle: build plans that do not fit this machine again.
        strict: a gate that could not be measured fails.
    """

    junit: Path | None = None
    github: bool = False
    bisect: bool = False
    images: Path | None = None
    engines: tuple[str, ...] = ()
    threads: int | None = None
    rebuild: bool = False
    strict: bool = False


def verify(path: Path, options: VerifyOptions = VerifyOptions()) -> int:
    """Compare every file with the manifest, and every model in every engine that runs here; return 0.

    Raises:
        GateError: a model is not what it was, or not near enough to the fp32 student.
        EdgeproofError: a file is missing or was changed, or nothing runs here.
    """
    if options.images is not None and not options.images.is_dir():
        raise UsageError("no such folder of images", where=options.images)
    count = verify_bundle(path)
    print(f"{count} files are those of the manifest, by size and sha256")
    found = check_bundle(
        path,
        options.images,
        engines=options.engines or None,
        threads=options.threads,
        rebuild=options.rebuild,
    )
    print("\n".join(lines_of(found)))
    print(f"when it was made: {read_bundle(path).manifest.get('verdict', 'no verdict')}")
    write_reports(found.parity, options, f"parity of {path.name}")
    if options.bisect:
        from edgeproof_deploy.bundle_bisect import bisect_bundle

        print("\n".join(bisect_bundle(path, options.images, options.threads)))
    found.raise_failures(strict=options.strict)
    return 0


def lines_of(found: BundleParity) -> list[str]:
    """Return what was compared and how it came out: a line for each comparison, and for each failed gate."""
    lines = [f"compared on {said}" for said in found.said]
    for pair in found.pairs:
        statuses = {gate.status for gate in pair.gates}
        outcome = FAIL if FAIL in statuses else "pass"
        lines.append(f"{outcome:<5} {pair.reference} -> {pair.candidate}: {', '.join(figures_of(pair))}")
    for one in found.others:
        statuses = {gate.status for gate in one.gates}
        outcome = FAIL if FAIL in statuses else NOT_MEASURED if NOT_MEASURED in statuses else "pass"
        lines.append(f"{outcome:<5} {one.name}{f': {one.reason}' if one.reason else ''}")
    lines += [f"claim {claim.words()}" for claim in found.claims]
    return [*lines, *found.skipped]


def figures_of(pair: PairParity) -> list[str]:
    """Return the smallest cosine of a comparison, the agreement, mAP of objects, and what was no number."""
    said, found = [], pair.numerics
    if found is not None and found.cosine_min is not None:
        said.append(f"cosine min {found.cosine_min:.6f}")
    if found is not None and found.nan:
        said.append(f"{found.nan} of {pair.n} embeddings hold NaN or infinity")
    if pair.decisions:
        said.append(f"agreement {pair.decisions.agreement:.4f}")
    if pair.decisions and pair.decisions.ranking:
        found_by = pair.decisions.ranking["image_to_image"]["map"]
        said.append(f"mAP {found_by['reference']:.4f} and {found_by['candidate']:.4f}")
    return said


def write_reports(parity: Parity, options: VerifyOptions, title: str) -> None:
    """Write what build servers read, where it was asked for."""
    if options.junit is not None:
        from edgeproof_deploy.junit import write_junit

        write_junit(options.junit, parity, title)
    if options.github:
        from edgeproof_deploy.github_summary import write_github

        write_github(parity, title)
