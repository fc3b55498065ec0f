"""`push` and `export-triton`: a bundle in the layouts of the Hugging Face hub and of Triton."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeproof.bundles import bundle_of
from edgeproof.prediction import runtime_errors
from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.files import read_json
from edgeproof_deploy.bundle import read_bundle
from edgeproof_deploy.hub_layout import HubModel


def push(place: Path, repo_id: str, *, dry_run: Path | None, public: bool) -> int:
    """Write the files of a model repository and upload them; return 0.

    Args:
        place: a run, or a bundle, which has no PyTorch weights.
        repo_id: `owner/name` on the hub.
        dry_run: a new folder to write to in place of the upload.
        public: whether a new repository is public; one that exists stays as it is.

    Raises:
        UsageError: there is no bundle, the name is none, or the folder exists.
        EdgeproofError: a file was changed, or the hub refuses.
        MissingPackageError: huggingface_hub is not installed.
    """
    check_repo_id(repo_id)
    bundle = bundle_of(place)
    model = HubModel(
        repo_id,
        read_bundle(bundle),
        weights=next((file for file in [place / "train/model.safetensors"] if file.is_file()), None),
        result=read_json(place / "result.json") if (place / "result.json").is_file() else {},
    )
    if dry_run is not None:
        if dry_run.exists():
            raise UsageError("this folder exists and is not overwritten", where=dry_run)
        with runtime_errors(bundle):
            files = model.write(dry_run)
        say(files, dry_run, model)
        print(f"dry run: nothing was uploaded to {repo_id}; the files lie in {dry_run}")
        return 0
    with TemporaryDirectory() as scratch:
        with runtime_errors(bundle):
            files = model.write(Path(scratch))
        say(files, Path(scratch), model)
        print(upload(Path(scratch), repo_id, public=public))
    return 0


def say(files: list[Path], folder: Path, model: HubModel) -> None:
    """Print what is uploaded, and in what of it photos can be seen."""
    for file in files:
        print(f"{file.stat().st_size:>12,}  {file.relative_to(folder).as_posix()}")
    photos = model.photos()
    if photos:
        print(f"images of the data can be seen in {len(photos)} of these files, such as bundle/{photos[0]}")


def upload(folder: Path, repo_id: str, *, public: bool) -> str:
    """Upload a folder with the hub's own library, its endpoint and its token; return the address.

    Raises:
        EdgeproofError: the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with hub_errors(repo_id):
        address = api.create_repo(repo_id, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload an edgeproof bundle")
    return str(address)


def check_repo_id(repo_id: str) -> None:
    """Refuse what is no `owner/name`.

    Raises:
        UsageError: says why.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UsageError(f"'{repo_id}' cannot be a repository: {first_line(error)}") from error
    if "/" not in repo_id:
        raise UsageError(f"'{repo_id}' has no owner", fix=f"say OWNER/{repo_id}")


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the hub's library raises into one sentence and what to do."""
    try:
        yield
    except Exception as error:
        # The library's own errors and those of its HTTP client share no base but Exception.
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
            raise EdgeproofError(
                f"the hub does not let this account write to {repo_id}",
                fix="hf auth login, or HF_TOKEN with a token that may write",
            ) from error
        raise EdgeproofError(
            f"the upload to {repo_id} failed: {first_line(error)}", fix="run the same command again"
        ) from error


def export_triton(place: Path, folder: Path, *, model: str | None, max_batch: int, name: str | None) -> int:
    """Write a bundle's model into a Triton model repository; return 0.

    Args:
        place: a bundle, or a run that has one.
        folder: the repository.
        model: an ONNX file or a plan of the bundle.
        max_batch: images that Triton may put together.
        name: of the model; the bundle's if None.

    Raises:
        UsageError: there is no bundle, or its model cannot be served so.
        EdgeproofError: a file was changed or is missing.
    """
    from edgeproof_deploy.triton import write_triton

    bundle = bundle_of(place)
    with runtime_errors(bundle):
        files = write_triton(read_bundle(bundle), folder, model=model, max_batch=max_batch, name=name)
    for file in files:
        print(file)
    print(f"tritonserver --model-repository {folder}")
    return 0


def first_line(error: Exception) -> str:
    """Return the first line of an error, at most 200 characters of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
