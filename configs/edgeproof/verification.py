"""What `verify` does: of a recipe, the stage and what it still needs; of a bundle, all that runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeproof.bundle_checks import VerifyOptions, write_reports
from edgeproof.bundles import is_bundle, refuse_options
from edgeproof_configs.errors import GateError, UsageError


def verify(recipe: str, options: VerifyOptions, chain: dict[str, Any]) -> int:
    """Verify a recipe or a bundle.

    Args:
        recipe: of a run, or a bundle.
        options: what to write besides.
        chain: options of a recipe's stages, by their names on the command line.

    Raises:
        GateError: a gate of accuracy or parity failed; reports are written before.
        UsageError: an option has no effect.
    """
    if is_bundle(Path(recipe)):
        from edgeproof.bundle_checks import verify as verify_bundle

        refuse_options(chain)
        return verify_bundle(Path(recipe), options)
    given = {
        "--images": options.images,
        "--engine": options.engines,
        "--threads": options.threads,
        "--rebuild": options.rebuild,
    }
    for name, value in given.items():
        if value:
            raise UsageError(f"{name} has no effect on a recipe", fix="leave it away, or name a bundle")
    if chain["--seeds"] is not None and (options.junit or options.github or options.bisect):
        raise UsageError("--seeds makes a run for each seed", fix="verify one of the runs: --run DIR")
    return _verify_recipe(recipe, options, chain)


def _verify_recipe(recipe: str, options: VerifyOptions, chain: dict[str, Any]) -> int:
    from edgeproof.chain_runs import run_chain

    failed: GateError | None = None
    try:
        run_chain(
            recipe,
            chain["--seeds"],
            overrides=chain["--set"] or [],
            run=chain["--run"],
            until="verify",
            device=chain["--device"],
            strict=options.strict,
        )
    except GateError as error:
        failed = error
    if options.junit or options.github or options.bisect:
        _tell(_run_folder(recipe, chain), options)
    if failed is not None:
        raise failed
    return 0


def _run_folder(recipe: str, chain: dict[str, Any]) -> Path:
    from edgeproof_configs.loader import peek_name

    return chain["--run"] or Path("runs") / peek_name(recipe, chain["--set"] or [])


def _tell(run: Path, options: VerifyOptions) -> None:
    from edgeproof_deploy.parity_report import read_parity

    write_reports(read_parity(run / "verify" / "parity.json"), options, f"parity of {run.name}")
    if options.bisect:
        from edgeproof_deploy.bundle_bisect import bisect_run

        print("\n".join(bisect_run(run)))
