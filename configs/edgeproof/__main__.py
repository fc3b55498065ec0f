"""`edgeproof` and `python -m edgeproof`: the one place where a failure becomes words and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from edgeproof.failures import describe

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""What keeps libraries, also in worker processes, from talking over a good run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: what stands behind `edgeproof`; those of this process if None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if not debug:
        hush()
    try:
        return run([word for word in given if word != "--debug"] or ["--help"])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        failure = describe(error)
        if debug and not failure.quiet:
            traceback.print_exc()
        print("\n".join(failure.lines), file=sys.stderr) if failure.lines else None
        return failure.exit_code


def run(arguments: list[str]) -> int:
    """Parse and run a command line; whatever it raises is raised."""
    from typer.main import get_command

    from edgeproof.cli import app

    command = get_command(app)
    with command.make_context("edgeproof", arguments) as context:
        return command.invoke(context) or 0


def hush() -> None:
    """Silence warnings of libraries, here and in child processes, unless the user asked for them."""
    import logging
    import warnings

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger().addHandler(logging.NullHandler())


if __name__ == "__main__":
    sys.exit(main())
