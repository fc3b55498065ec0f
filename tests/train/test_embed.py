from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from edgeproof_configs.errors import DataError, EdgeproofError
from edgeproof_configs.schema import TeacherConfig
from edgeproof_data.cache import EmbeddingCache, StaleCacheError
from edgeproof_data.sets import ImageSet, unlabelled
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image
from edgeproof_train.embed import cache_key, embed_split, verify_cache
from edgeproof_train.supply import supply
from edgeproof_train.teacher import Teacher, TeacherPlaces, frozen
from edgeproof_train.teachers.stored import StoredTeacher
from edgeproof_train.weights import weights_digest

COUNT = 75
DIM = 12


class ConvTeacher(Teacher):
    """A small network with seeded weights that counts the images it sees."""

    class Config(TeacherConfig):
        kind: Literal["conv"] = "conv"  # pyright: ignore[reportIncompatibleVariableOverride]
        seed: int = 0

    embedding_dim = DIM
    preprocess = Preprocess(24, 28, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        torch.manual_seed(config.seed)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(800, DIM)
        )
        self.model = frozen(model, self.device)
        self.seen = 0

    def _identity(self) -> dict[str, Any]:
        return {"weights_sha256": weights_digest(self.model.state_dict())}

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        self.seen += len(image_BCHW)
        return self.model(image_BCHW)


def conv_teacher(seed: int = 0) -> ConvTeacher:
    return ConvTeacher(ConvTeacher.Config(seed=seed), TeacherPlaces())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    paths = [f"{number % 3}/{number}.png" for number in range(COUNT)]
    for path in paths:
        (root / path).parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 255, (5, 6, 3), dtype=np.uint8))
        coarse.resize((40, 32)).save(root / path)
    return unlabelled(root, paths)


def by_hand(teacher: ConvTeacher, images: ImageSet) -> np.ndarray:
    assert teacher.preprocess is not None
    inputs = [teacher.preprocess(open_image(images.file(index))) for index in range(len(images))]
    return teacher.encode_image(torch.from_numpy(np.stack(inputs))).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_embed_split__stores_what_the_teacher_says(images: ImageSet, tmp_path: Path, workers: int) -> None:
    teacher = conv_teacher()
    cache = embed_split(teacher, images, tmp_path, batch_size=16, workers=workers)
    expected = by_hand(teacher, images)
    assert (len(cache), cache.dim) == (COUNT, DIM)
    assert cache.paths == images.paths
    np.testing.assert_allclose(cache.rows(np.arange(COUNT), raw=True), expected, rtol=1e-3, atol=1e-3)
    assert cosines(cache.rows(np.arange(COUNT)), expected).min() > 1 - 1e-6
    assert cache.sha256(3) == hashlib.sha256(images.file(3).read_bytes()).hexdigest()


def test_embed_split__computes_only_what_is_missing(images: ImageSet, tmp_path: Path) -> None:
    teacher = conv_teacher()
    first = embed_split(teacher, images.subset(range(40)), tmp_path, batch_size=8, workers=0)
    assert teacher.seen == 40
    rows = first.rows(np.arange(40), raw=True)
    cache = embed_split(teacher, images, tmp_path, batch_size=8, workers=0)
    assert teacher.seen == COUNT
    np.testing.assert_array_equal(cache.rows(np.arange(40), raw=True), rows)
    embed_split(teacher, images, tmp_path, batch_size=8, workers=0)
    assert teacher.seen == COUNT


def test_embed_split__goes_on_after_a_kill(images: ImageSet, tmp_path: Path) -> None:
    whole = embed_split(conv_teacher(), images, tmp_path / "whole", batch_size=8, workers=0)

    class Killed(ConvTeacher):
        def _encode_image(self, image_BCHW: Tensor) -> Tensor:
            if self.seen >= 48:
                raise KeyboardInterrupt
            return super()._encode_image(image_BCHW)

    with pytest.raises(KeyboardInterrupt):
        embed_split(
            Killed(Killed.Config(), TeacherPlaces()), images, tmp_path / "cut", batch_size=8, workers=0
        )
    teacher = conv_teacher()
    cache = embed_split(teacher, images, tmp_path / "cut", batch_size=8, workers=0)
    assert 0 < teacher.seen < COUNT
    np.testing.assert_array_equal(
        cache.rows(np.arange(COUNT), raw=True), whole.rows(np.arange(COUNT), raw=True)
    )


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def embed_under_kills(root: Path, folder: Path, kills: int) -> None:
    """Embed in peace, then again and again under kill -9 at random moments, and compare."""
    # The same photos under many names make enough parts for a kill to fall between them.
    names = tuple(f"./{'./' * (n // COUNT)}{n % COUNT % 3}/{n % COUNT}.png" for n in range(600))
    many = ImageSet(root, names, np.full(600, -1, np.int64))
    started = time.monotonic()
    whole = embed_split(conv_teacher(), many, folder / "whole", batch_size=8, workers=0)
    seconds = time.monotonic() - started
    generator = np.random.default_rng(kills)
    for number in range(kills):
        place = folder / str(number)
        options = {"batch_size": 8, "workers": 0}
        child = multiprocessing.get_context("fork").Process(
            target=embed_split, args=(conv_teacher(), many, place), kwargs=options
        )
        child.start()
        time.sleep(generator.uniform(0, seconds))
        child.kill()
        child.join()
        cache = embed_split(conv_teacher(), many, place, batch_size=8, workers=0)
        assert cache.paths == whole.paths
        np.testing.assert_array_equal(
            cache.rows(np.arange(600), raw=True), whole.rows(np.arange(600), raw=True)
        )


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_embed_split__survives_sigkill_at_random_moments(
    images: ImageSet, tmp_path: Path, kills: int
) -> None:
    # In a process of its own: this one may have loaded engines whose threads do not outlive a fork.
    code = (
        "import sys; from pathlib import Path; from tests.train.test_embed import embed_under_kills;"
        "embed_under_kills(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))"
    )
    words = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(images.root), str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run([*words, str(kills)], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / str(kills - 1)).is_dir()


def test_embed_split__computes_anew_for_another_teacher(images: ImageSet, tmp_path: Path) -> None:
    embed_split(conv_teacher(), images, tmp_path, batch_size=16, workers=0)
    other = conv_teacher(seed=1)
    with pytest.raises(StaleCacheError, match="weights_sha256"):
        EmbeddingCache.open(tmp_path, cache_key(other))
    cache = embed_split(other, images, tmp_path, batch_size=16, workers=0)
    assert other.seen == COUNT
    np.testing.assert_allclose(
        cache.rows(np.arange(COUNT), raw=True), by_hand(other, images), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_embed_split__names_an_image_that_broke_since_the_check(tmp_path: Path, workers: int) -> None:
    Image.new("RGB", (30, 30), (9, 8, 7)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"1 image cannot be read: b\.png") as caught:
        embed_split(
            conv_teacher(),
            unlabelled(tmp_path, ["a.png", "b.png"]),
            tmp_path / "cache",
            batch_size=2,
            workers=workers,
        )
    assert "edgeproof data check" in str(caught.value)


def test_embed_split__names_the_image_with_a_nan(images: ImageSet, tmp_path: Path) -> None:
    teacher = conv_teacher()
    next(teacher.model.parameters()).fill_(torch.nan)
    with pytest.raises(DataError, match="NaN"):
        embed_split(teacher, images, tmp_path, batch_size=16, workers=0)


def test_embed_split__packs_stored_embeddings(images: ImageSet, tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(COUNT, 5)).astype(np.float32) * 7
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "rows.csv").write_text("\n".join(["path", *images.paths]), encoding="utf-8")
    pair = {"embeddings": str(tmp_path / "rows.npy"), "index": str(tmp_path / "rows.csv")}
    teacher = StoredTeacher(
        StoredTeacher.Config.model_validate({"files": [pair]}), TeacherPlaces(images.root)
    )
    backwards = images.subset(np.arange(COUNT)[::-1])
    cache = embed_split(teacher, backwards, tmp_path / "cache", batch_size=16, workers=0)
    np.testing.assert_allclose(cache.rows(np.arange(COUNT), raw=True), rows[::-1], rtol=2e-3, atol=1e-3)
    assert cache.key.preprocess is None
    assert verify_cache(cache, teacher, backwards)["cosine_min"] > 0.99999


def test_verify_cache__reports_cosine_and_throughput(images: ImageSet, tmp_path: Path) -> None:
    teacher = conv_teacher()
    cache = embed_split(teacher, images, tmp_path, batch_size=16, workers=0)
    found = verify_cache(cache, teacher, images, sample=10)
    assert found["sample"] == 10
    assert 0.99999 < found["cosine_min"] <= 1.000001
    assert found["norm_error_max"] < 1e-3
    assert found["images_per_second"] > 0


def test_verify_cache__notices_rows_of_another_teacher(images: ImageSet, tmp_path: Path) -> None:
    cache = embed_split(conv_teacher(), images, tmp_path, batch_size=16, workers=0)
    with pytest.raises(EdgeproofError, match="the cache does not agree with the teacher: cosine"):
        verify_cache(cache, conv_teacher(seed=1), images)


def test_teacher__is_frozen_and_outside_of_every_module() -> None:
    teacher = conv_teacher()
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())

    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = teacher

    assert not list(Task().parameters())
    assert not Task().state_dict()
    image = torch.rand(2, 3, 24, 24, requires_grad=True)
    out = teacher.encode_image(image)
    assert (out.dtype, out.requires_grad) == (torch.float32, False)
    # What comes out may stand in a loss with a gradient to the student.
    student = torch.rand(2, DIM, requires_grad=True)
    (student * out).sum().backward()
    assert student.grad is not None


@pytest.mark.parametrize(
    ("view", "changing", "live", "more", "expected"),
    [
        ("exact", False, False, {}, "cache"),
        ("exact", False, True, {}, "cache"),
        ("exact", True, True, {}, "live"),
        ("exact", True, True, {"stored_views": True}, "views"),
        ("exact", False, True, {"maps": True}, "live"),
        ("assume_invariant", True, False, {}, "cache"),
    ],
)
def test_supply__takes_stored_outputs_only_for_their_view(
    view: Any, changing: bool, live: bool, more: dict[str, bool], expected: str
) -> None:
    assert supply(view, changing, live, **more) == expected


def test_supply__maps_of_stored_outputs_are_refused() -> None:
    with pytest.raises(EdgeproofError, match="only has stored outputs"):
        supply("exact", False, live=False, maps=True)


def test_supply__refuses_stored_outputs_for_random_views() -> None:
    with pytest.raises(EdgeproofError, match="assume_invariant"):
        supply("exact", True, live=False)


WORKER = """
import importlib.util, sys
from pathlib import Path
import torch
from edgeproof_data.sets import unlabelled
from edgeproof_train.embed import embed_split
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("embed_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["embed_test"] = module
spec.loader.exec_module(module)
teacher = module.conv_teacher()
root = Path(sys.argv[2])
paths = [f"{number % 3}/{number}.png" for number in range(module.COUNT)]
cache = embed_split(teacher, unlabelled(root, paths), Path(sys.argv[3]), batch_size=8, workers=0)
print(f"saw {teacher.seen} has {len(cache)};")
"""


@pytest.mark.integration
def test_embed_split__two_processes_of_torchrun_give_what_one_gives(images: ImageSet, tmp_path: Path) -> None:
    one = embed_split(conv_teacher(), images, tmp_path / "one", batch_size=8, workers=0)
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(script), __file__, str(images.root), str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = sorted(int(part.split()[1]) for part in done.stdout.split(";") if "saw" in part)
    assert sum(seen) == COUNT
    assert seen[0] > 0
    two = EmbeddingCache.open(tmp_path / "two", cache_key(conv_teacher()))
    rows = np.arange(COUNT)
    assert two.paths == one.paths
    np.testing.assert_allclose(two.rows(rows, raw=True), one.rows(rows, raw=True), atol=1e-6)
