"""A student of views through export, engines, self-test and gates; a bundle of it without a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_deploy.batches import order_gates
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.bundle_images import embed_folder, vocabulary_of
from edgeproof_deploy.bundle_models import inputs_of
from edgeproof_deploy.bundle_parity import check_bundle
from edgeproof_deploy.engine import BuildOptions, make_engine, open_onnx
from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.half import to_fp16
from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.gallery_head import GalleryHead
from edgeproof_deploy.runtime.openvino_session import OpenVinoSession, why_not_installed
from edgeproof_deploy.runtime.plan_build import build_plan
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings
from edgeproof_deploy.runtime.plans import view_counts
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.runtime.self_test import read_self_test, run_self_test
from edgeproof_deploy.self_test import write_self_test
from edgeproof_deploy.torch_session import TorchSession
from edgeproof_deploy.triton import write_triton
from edgeproof_train.heads.files import save_head
from edgeproof_train.students.multi_view import MultiViewStudent

SIDE, DIM = 32, 8
RNG = np.random.default_rng(0)


def make_student(pooling: Any = "max", pool_at: str = "features") -> MultiViewStudent:
    torch.manual_seed(0)
    settings: Any = {"model": "test_resnet.r160_in1k", "image_size": SIDE}
    config = MultiViewStudent.Config(**settings, pooling=pooling, pool_at=pool_at)
    return MultiViewStudent(config, DIM).eval()


@pytest.fixture(scope="module")
def student() -> MultiViewStudent:
    return make_student()


@pytest.fixture(scope="module")
def file(student: MultiViewStudent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "model.onnx"
    export_onnx(student, path)
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of two objects with 3 views, one of them with 2."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("cup", "dog"):
        for number in range(2):
            folder = root / name / f"{name}{number}"
            folder.mkdir(parents=True)
            for view in range(3 - (name == "dog") * number):
                pixels = RNG.integers(0, 256, (40, 44, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{view}.png")
    return root


@pytest.fixture(scope="module")
def bundle(
    student: MultiViewStudent, file: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    preprocess = replace(student.preprocess, views=3)
    objects = [sorted(place.iterdir()) for place in sorted(tree.glob("*/*"))]
    session = open_onnx(file, threads=1)
    kept = write_self_test(
        folder / "test", objects, preprocess, TorchSession(student), {"model.onnx": (session, "fp32")}
    )
    keys = np.concatenate([rows_of(session, preprocess, files) for files in objects])
    names = tuple(place.relative_to(tree).as_posix() for place in sorted(tree.glob("*/*")))
    head = GalleryHead(("cup", "dog"), keys, np.array([0, 0, 1, 1]), names, 50.0)
    save_head(head, folder / "head", half=True)
    (folder / "parity.json").write_text("{}")
    parts = BundleParts("views", [file], folder / "head", preprocess, folder / "parity.json", self_test=kept)
    write_bundle(folder / "bundle", parts)
    return folder / "bundle"


def rows_of(session: Any, preprocess: Any, files: list[Path]) -> np.ndarray:
    views = np.stack([preprocess(Image.open(file).convert("RGB")) for file in files])
    rows = session.run({"views": views[None]})["embedding"]
    return rows / np.linalg.norm(rows)


def views_of(batch: int, count: int) -> np.ndarray:
    return RNG.standard_normal((batch, count, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize(("pooling", "pool_at"), [("mean", "features"), ("attention", "layer3")])
def test_export_onnx__batch_and_views_are_free(pooling: str, pool_at: str, tmp_path: Path) -> None:
    student = make_student(pooling, pool_at)
    for part in student.view_pool.parameters():
        torch.nn.init.normal_(part)
    result = export_onnx(student, tmp_path / "model.onnx")
    assert result.cosine_min > 0.99999
    (taken,) = onnx.load(tmp_path / "model.onnx").graph.input
    sides = [side.dim_param or side.dim_value for side in taken.type.tensor_type.shape.dim]
    assert (taken.name, sides) == ("views", ["batch", "views", 3, SIDE, SIDE])
    session, eager = open_onnx(tmp_path / "model.onnx", threads=1), TorchSession(student)
    assert session.input_name == eager.input_name == "views"
    for batch, count in ((1, 1), (3, 7), (4, 2)):
        given = {"views": views_of(batch, count)}
        found, wanted = session.run(given)["embedding"], eager.run(given)["embedding"]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_export_onnx__the_file_says_that_it_takes_views(file: Path) -> None:
    told = {one.key: one.value for one in onnx.load(file).metadata_props}
    assert told["input"].startswith("views: float32 (batch, views, 3, 32, 32)")


def test_to_fp16__of_a_student_of_views(file: Path, tmp_path: Path) -> None:
    found = to_fp16(file, tmp_path / "half.onnx", views_of(4, 3))
    assert found.cosine_min > 0.999
    assert found.converted > 10
    with pytest.raises(ValueError, match="expected float32 images"):
        to_fp16(file, tmp_path / "half.onnx", views_of(4, 3)[:, 0])


@pytest.mark.skipif(why_not_installed() is not None, reason="openvino is not installed")
def test_openvino__any_batch_and_number_of_views(file: Path) -> None:
    session, other = OpenVinoSession(file.read_bytes(), threads=1), open_onnx(file, threads=1)
    for batch, count in ((2, 3), (1, 5)):
        given = {"views": views_of(batch, count)}
        rows = session.run(given)["embedding"], other.run(given)["embedding"]
        np.testing.assert_allclose(*rows, atol=1e-4)
    session.close()


def test_build_plan__a_profile_of_batch_and_views(file: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    data = file.read_bytes()
    settings = PlanSettings((1, 4), compute_capabilities=("8.6",), views=(3, 1, 12))
    built = build_plan("tensorrt_rtx", data, settings, onnx_name="model.onnx", plan_name="model.engine")
    rest = (3, SIDE, SIDE)
    assert built.more["profile"]["views"] == {
        "smallest": (1, 1, *rest),
        "tuned_for": (1, 3, *rest),
        "largest": (4, 12, *rest),
    }


@pytest.mark.slow
@pytest.mark.parametrize("pool_at", ["features", "layer3"])
@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
def test_build__plans_of_a_student_of_views_in_fp32_and_fp16(
    pooling: str, pool_at: str, tmp_path: Path
) -> None:
    """Built for SM 8.6 and not run: a plan takes every number of views up to the largest."""
    pytest.importorskip("tensorrt_rtx")
    student = make_student(pooling, pool_at)
    for part in student.view_pool.parameters():
        torch.nn.init.normal_(part)
    files = {"fp32": tmp_path / "model.onnx", "fp16": tmp_path / "model.fp16.onnx"}
    export_onnx(student, files["fp32"])
    to_fp16(files["fp32"], files["fp16"], views_of(4, 3))
    engine, sizes = make_engine("tensorrt_rtx"), {}
    for precision, model in files.items():
        options = BuildOptions((1, 8), precision=precision, label=precision, views=(12, 1, 20))
        plan = engine.build(model, tmp_path, options)
        assert plan.name == f"tensorrt_rtx-{precision}-sm86.engine"
        sizes[precision] = plan.stat().st_size
        told = json.loads(plan.with_suffix(".json").read_text())
        sides = {bound: shape[:2] for bound, shape in told["profile"]["views"].items()}
        assert sides == {"smallest": [1, 1], "tuned_for": [1, 12], "largest": [8, 20]}
        assert told["settings"]["views"] == [12, 1, 20]
        if not engine.runs_here:
            assert told["status"] == "built, not run here"
    assert sizes["fp16"] < sizes["fp32"]


def test_order_gates__of_views_alone(file: Path) -> None:
    session = open_onnx(file, threads=1)
    (gate,) = order_gates(session, views_of(3, 4))
    assert (gate.name, gate.status) == ("order_cosine", "pass")
    assert order_gates(session, views_of(3, 1)) == []


def test_order_gates__a_model_that_takes_views_by_their_place_fails(file: Path) -> None:
    class First(TorchSession):
        def run(self, inputs: Any) -> dict[str, np.ndarray]:
            return super().run({"views": inputs["views"][:, :1]})

    (gate,) = order_gates(First(make_student()), views_of(3, 4))
    assert gate.status == "fail"


def test_self_test__of_objects(bundle: Path) -> None:
    found = Bundle(bundle)
    test = read_self_test(found)
    assert test is not None
    assert [len(image.views) for image in test.images] == [3, 3, 3, 2, *[1] * 7]
    assert test.photos == 4
    with Predictor.open(bundle) as predictor:
        told = run_self_test(found, predictor.preprocess, predictor.session, "model.onnx")
    assert (told.photos, told.failures) == (4, ())


def test_check_bundle__on_its_own_and_a_user_s_objects(bundle: Path, tree: Path) -> None:
    found = check_bundle(bundle, tree, engines=["onnxruntime"], threads=1)
    assert found.said[0] == "4 objects and 7 drawn images that the bundle carries"
    assert found.said[1] == f"4 objects of {tree}, 4 of them with a label of the bundle"
    assert found.failures() == []
    names = {gate.name for pair in found.pairs for gate in pair.gates}
    assert {"batch_cosine", "order_cosine", "map_drop"} <= names
    ranking = found.pairs[-1].decisions
    assert ranking is not None
    assert ranking.ranking is not None
    assert ranking.ranking["image_to_image"]["queries"] == 4


def test_check_bundle__without_images_on_noise(bundle: Path, tmp_path: Path) -> None:
    found = Bundle(bundle)
    preprocess = Predictor.open(bundle).preprocess
    for name in ("model.onnx", "head.safetensors", "labels.txt"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(found.read(name))
    (tmp_path / "in" / "parity.json").write_text("{}")
    parts = BundleParts(
        "bare", [tmp_path / "in" / "model.onnx"], tmp_path / "in", preprocess, tmp_path / "in" / "parity.json"
    )
    write_bundle(tmp_path / "bare", parts)
    bare = check_bundle(tmp_path / "bare", engines=["onnxruntime"], threads=1)
    (judged,) = bare.others
    assert [gate.name for gate in judged.gates] == ["finite", "batch_cosine", "order_cosine"]


def test_embed_folder__each_folder_with_images_is_an_object(bundle: Path, tree: Path) -> None:
    with Predictor.open(bundle) as predictor:
        seen = embed_folder(tree, predictor.preprocess, {"": predictor.session})
        vocabulary = vocabulary_of(predictor.head, seen.files, tree, of_objects=True)
        rows = predictor.embed([tree / "dog" / "dog1"])
    assert [place.name for place in seen.files] == ["cup0", "cup1", "dog0", "dog1"]
    assert vocabulary.labels.tolist() == [0, 0, 1, 1]
    assert seen.first.shape == (3, 3, 3, SIDE, SIDE)
    np.testing.assert_allclose(seen.rows[""][3:], rows, atol=1e-5)


def test_embed_folder__no_image_below(bundle: Path, tmp_path: Path) -> None:
    with Predictor.open(bundle) as predictor, pytest.raises(DataError, match="holds no image"):
        embed_folder(tmp_path, predictor.preprocess, {"": predictor.session})


def test_inputs_of__as_many_views_as_are_asked_for(file: Path) -> None:
    session = open_onnx(file, threads=1)
    assert inputs_of(session, 2, 5)["views"].shape == (2, 5, 3, SIDE, SIDE)
    with pytest.raises(UsageError, match="no fixed size"):
        inputs_of(session, 2)


def test_predictor__finds_the_object_itself(bundle: Path, tree: Path) -> None:
    with Predictor.open(bundle) as predictor:
        predictor.warm_up(2)
        found = predictor.predict([tree / "cup" / "cup1", tree / "dog" / "dog1"], top_k=2, batch_size=2)
        image = predictor.embed_image(Image.new("RGB", (40, 40)))
    assert [one.nearest[0][:2] for one in found] == [("cup/cup1", "cup"), ("dog/dog1", "dog")]
    assert [one.nearest[0][2] for one in found] == pytest.approx([1, 1], abs=1e-3)
    assert [one.views for one in found] == [3, 2]
    assert image.shape == (1, DIM)


def test_predictor__a_bundle_that_contradicts_itself(bundle: Path, file: Path, tmp_path: Path) -> None:
    found = Bundle(bundle)
    for name in ("head.safetensors", "labels.txt"):
        (tmp_path / name).write_bytes(found.read(name))
    (tmp_path / "parity.json").write_text("{}")
    plain = replace(Predictor.open(bundle).preprocess, views=None)
    write_bundle(tmp_path / "bundle", BundleParts("odd", [file], tmp_path, plain, tmp_path / "parity.json"))
    with pytest.raises(BundleError, match="does not say of how many views"):
        Predictor.open(tmp_path / "bundle")


def test_view_counts__any_up_to_those_of_evaluation_unless_the_recipe_says(bundle: Path) -> None:
    found = Bundle(bundle)
    assert view_counts(found) == (3, 1)
    found.manifest["recipe"] = {"deploy": {"views": [4, 2, 20]}}
    assert view_counts(found) == (4, 2, 20)


def test_write_triton__takes_any_number_of_views(bundle: Path, tmp_path: Path) -> None:
    import onnxruntime

    write_triton(Bundle(bundle), tmp_path, model=None, max_batch=4, name=None)
    text = (tmp_path / "views" / "config.pbtxt").read_text()
    assert 'name: "views"\n    data_type: TYPE_FP32\n    dims: [ -1, 3, 32, 32 ]' in text
    served = onnxruntime.InferenceSession(
        str(tmp_path / "views" / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    given = views_of(2, 5)
    (shares,) = served.run(["probabilities"], {"views": given})
    with Predictor.open(bundle) as predictor:
        rows = predictor.session.run({"views": given})["embedding"]
        np.testing.assert_allclose(np.asarray(shares), predictor.head.probabilities(rows), atol=1e-5)


def test_preprocess_json__says_how_many_views(bundle: Path) -> None:
    assert json.loads((bundle / "preprocess.json").read_text())["views"] == 3


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ("self_test/00_00.png", "views that are no list of files"),
        ([3], "views that are no list of files"),
        (["self_test/00_09.png"], "which is not in the bundle"),
        ([], "is for a model of another input"),
    ],
)
def test_read_self_test__damaged_views(bundle: Path, views: Any, words: str) -> None:
    found = Bundle(bundle)
    index = found.read_json("self_test/self_test.json")
    index["images"][0]["views"] = views

    class Changed(Bundle):
        def read_json(self, name: str) -> Any:
            return index if name == "self_test/self_test.json" else super().read_json(name)

    changed = Changed(bundle)
    with Predictor.open(bundle) as predictor, pytest.raises(BundleError, match=words):
        run_self_test(changed, predictor.preprocess, predictor.session, "model.onnx")
