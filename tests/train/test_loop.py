from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_train import loop
from edgeproof_train.checkpoint import NEWEST, load_checkpoint
from edgeproof_train.mixing import mixed
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.student import Student

PLAIN = {"model": "test_vit", "drop_rate": 0.0}


class StopError(Exception):
    """Stands for whatever ends a process."""


def stop_at(case: Any, step: int, batch_size: int = 4) -> Any:
    """Return a loader that ends the training after so many batches."""

    class Stopping(case.MemoryLoader):
        def epoch(self, epoch: int, start_step: int = 0) -> Any:
            for number, batch in enumerate(super().epoch(epoch, start_step)):
                if epoch * self.steps_per_epoch + start_step + number >= step:
                    raise StopError
                yield batch

    return Stopping(batch_size)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
        for row in rows
    ]


def same_weights(one: Path, two: Path) -> bool:
    names = ("model.safetensors", "last/model.safetensors", "losses.safetensors", "last/losses.safetensors")
    return all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_train__learns_and_leaves_best_and_last(case: Any, tmp_path: Path) -> None:
    result = case.run(tmp_path, epochs=4)
    figures = [row["val"]["cosine_mean"] for row in result.history]
    assert figures[-1] > figures[0]
    assert result.best == {"cosine_mean": max(figures)}
    assert result.best_epoch == figures.index(max(figures)) + 1
    assert result.last == {"cosine_mean": figures[-1]}
    assert (result.steps, result.weights) == (24, "ema")
    assert case.evaluate(Student.load(tmp_path)) == pytest.approx(result.best)
    assert case.evaluate(Student.load(tmp_path / "last")) == pytest.approx(result.last)
    assert set(load_file(tmp_path / "losses.safetensors")) == {"text_cross_entropy.log_scale"}
    assert not list(tmp_path.glob("checkpoint*"))


def test_train__reports_each_term_raw_and_weighted(case: Any, tmp_path: Path) -> None:
    case.run(tmp_path, epochs=4)
    rows = case.read_rows(tmp_path)
    assert [(row["event"], row["epoch"], row["step"]) for row in rows] == [
        ("epoch", 1, 6),
        ("epoch", 2, 12),
        ("epoch", 3, 18),
        ("step", 4, 20),
        ("epoch", 4, 24),
    ]
    for row in rows:
        terms = row["losses"]
        assert list(terms) == ["cosine_embedding", "text_cross_entropy"]
        assert terms["text_cross_entropy"]["weighted"] == pytest.approx(
            0.1 * terms["text_cross_entropy"]["raw"]
        )
        assert row["loss"] == pytest.approx(sum(term["weighted"] for term in terms.values()))
        assert row["images_per_second"] > 0
    assert rows[3]["grad_norm"] > 0


def test_train__writes_tensorboard_events(case: Any, tmp_path: Path) -> None:
    result = case.run(tmp_path)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("val/cosine_mean")}
    assert found == pytest.approx({row["step"]: row["val"]["cosine_mean"] for row in result.history})
    assert "epochs_raw/text_cross_entropy" in events.Tags()["scalars"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": False, "optimizer": "sgd", "checkpoint_every_steps": 1},
        {"accumulate": 4, "checkpoint_every_steps": 1},
        {"mix": {"mixup": 0.8, "cutmix": 1.0}},
        {"terms": [{"kind": "multi_teacher"}]},
        {"ema": 0.9, "checkpoint_every_steps": None, "channels_last": False, "precision": "bf16"},
    ],
)
def test_train__resumed_is_uninterrupted_to_the_bit(
    settings: dict[str, Any], case: Any, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = case.run(whole, **settings)
    for step in (5, 9, 16):
        with pytest.raises(StopError):
            case.run(broken, loader=stop_at(case, step), **settings)
    result = case.run(broken, **settings)
    assert same_weights(whole, broken)
    assert without_times(result.history) == without_times(expected.history)
    assert without_times(case.read_rows(broken)) == without_times(case.read_rows(whole))


@pytest.mark.integration
@pytest.mark.parametrize(("kills", "seed"), [(3, 0), pytest.param(20, 1, marks=pytest.mark.slow)])
def test_train__killed_is_uninterrupted_to_the_bit(
    kills: int, seed: int, case: Any, tmp_path: Path, run_case: Any
) -> None:
    done = run_case("kill_case.py", str(tmp_path), str(kills), str(seed))
    assert int(done.stdout) >= kills
    trainings = sorted(tmp_path.glob("killed-*"))
    assert trainings
    for folder in trainings:
        assert not [file for file in folder.rglob(".*") if file.is_file()]
        assert same_weights(tmp_path / "peace", folder)
        assert without_times(case.read_rows(folder)) == without_times(case.read_rows(tmp_path / "peace"))


def test_train__a_cut_checkpoint_costs_steps_and_nothing_else(
    case: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    case.run(whole)
    with pytest.raises(StopError):
        case.run(broken, loader=stop_at(case, 9))
    newest = broken / NEWEST
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    case.run(broken)
    assert "going on from checkpoint.previous.safetensors" in capsys.readouterr().err
    assert same_weights(whole, broken)


def test_train__a_finished_training_is_not_done_again(case: Any, tmp_path: Path) -> None:
    first = case.run(tmp_path)
    assert case.run(tmp_path, loader=stop_at(case, 0)) == first


def test_train__other_settings_start_anew(
    case: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StopError):
        case.run(tmp_path / "a", loader=stop_at(case, 9))
    case.run(tmp_path / "a", lr=0.003)
    assert "begun anew" in capsys.readouterr().err
    case.run(tmp_path / "b", lr=0.003)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StopError):
        case.run(tmp_path / "a", lr=0.004, loader=stop_at(case, 0))


@pytest.mark.parametrize("step", [0, 7])
def test_train__a_loss_that_is_no_number(step: int, case: Any, tmp_path: Path) -> None:
    class Spoilt(case.MemorySupervision):
        calls = 0

        def __call__(self, batch: Any) -> ModelOutputs:
            self.calls += 1
            rows = super().__call__(batch).embedding
            return ModelOutputs(embedding=rows * torch.nan if self.calls > step else rows)

    words = rf"loss 'cosine_embedding' became NaN at step {step + 1}, epoch {step // 6 + 1}"
    with pytest.raises(EdgeproofError, match=words):
        case.run(tmp_path, supervision=Spoilt())
    found = load_checkpoint(tmp_path)
    if step == 0:
        assert found is None
    else:
        assert found is not None
        assert found[1]["position"]["step"] == 6
        assert all(tensor.isfinite().all() for tensor in found[0].values())


def test_train__an_infinite_gradient(case: Any, tmp_path: Path) -> None:
    task = case.make_task()
    task.student.head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(EdgeproofError, match="the gradient became NaN at step 1"):
        case.run(tmp_path, task=task)


def test_train__out_of_memory_says_which_batch_to_try(case: Any, tmp_path: Path) -> None:
    class Greedy(case.MemorySupervision):
        def __call__(self, batch: Any) -> ModelOutputs:
            torch.empty(1 << 50, dtype=torch.uint8)
            return super().__call__(batch)

    with pytest.raises(EdgeproofError, match=r"out of memory.*batch_size 4") as caught:
        case.run(tmp_path, supervision=Greedy())
    assert caught.value.fix == (
        "--set train.batch_size=2 --set train.accumulate=2: the same step in smaller parts"
    )


def test_train__accumulating_is_a_larger_batch(case: Any, tmp_path: Path) -> None:
    terms = [{"kind": "cosine_embedding"}, {"kind": "text_kl", "weight": 0.1}]
    settings = {"terms": terms, "model": PLAIN, "ema": False}
    case.run(tmp_path / "large", batch_size=8, **settings)
    case.run(tmp_path / "parts", batch_size=4, accumulate=2, **settings)
    large, parts = (case.read_rows(tmp_path / name) for name in ("large", "parts"))
    assert [row["step"] for row in large] == [row["step"] for row in parts]
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in large], rel=1e-4)


def test_train__accumulating_what_compares_a_batch_is_refused(case: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="relational compares the images"):
        case.run(tmp_path, [{"kind": "relational"}], accumulate=2)


def test_train__accumulating_class_scores_is_a_larger_batch(case: Any, tmp_path: Path) -> None:
    terms = [{"kind": "cross_entropy"}, {"kind": "soft_target", "temperature": 2}]
    settings = {"terms": terms, "model": PLAIN | {"class_scores": True}, "ema": False}
    case.run(tmp_path / "large", batch_size=8, **settings)
    case.run(tmp_path / "parts", batch_size=4, accumulate=2, **settings)
    large, parts = (case.read_rows(tmp_path / name) for name in ("large", "parts"))
    assert [row["step"] for row in large] == [row["step"] for row in parts]
    for kind in ("cross_entropy", "soft_target"):
        of_parts, of_large = ([row["losses"][kind]["raw"] for row in rows] for rows in (parts, large))
        assert of_parts == pytest.approx(of_large, rel=1e-4)


def test_train__two_passes_and_a_teacher_both_move_the_weights(case: Any, tmp_path: Path) -> None:
    """R-Drop takes nothing from the teacher's term, and the teacher's term nothing from R-Drop."""
    labels, taught, twice = ({"kind": kind} for kind in ("cross_entropy", "soft_target", "r_drop"))
    cases = {
        "taught": [labels, taught],
        "twice": [labels, twice | {"weight": 8.0}],
        "off": [labels, taught, twice | {"weight": 0.0}],
        "both": [labels, taught, twice | {"weight": 8.0}],
    }
    model = {"model": "test_vit", "drop_rate": 0.5, "class_scores": True}
    for name, terms in cases.items():
        case.run(tmp_path / name, terms, model=model, epochs=4, ema=False)
    head = {name: Student.load(tmp_path / name / "last").state_dict()["head.weight"] for name in cases}
    assert all((head["both"] - head[name]).abs().max() > 0.01 for name in ("taught", "twice", "off"))
    apart = {name: case.read_rows(tmp_path / name)[-1]["losses"]["r_drop"]["raw"] for name in ("off", "both")}
    assert 0 < apart["both"] < apart["off"]


def test_train__bf16_learns_like_fp32(case: Any, tmp_path: Path) -> None:
    settings = {"terms": [{"kind": "cosine_embedding"}], "model": PLAIN, "epochs": 4, "lr": 0.001}
    full, half = (
        case.run(tmp_path / precision, precision=precision, **settings) for precision in ("fp32", "bf16")
    )
    assert half.history[-1]["loss"] == pytest.approx(full.history[-1]["loss"], rel=0.01)
    assert half.history[-1]["loss"] != full.history[-1]["loss"]


def test_train__fp16_needs_a_gpu(case: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp16 training needs a GPU"):
        case.run(tmp_path, precision="fp16")


@pytest.mark.parametrize("frozen", [True, False])
def test_train__frozen_batch_norms_keep_their_statistics(frozen: bool, case: Any, tmp_path: Path) -> None:
    case.run(tmp_path, epochs=2, ema=False, freeze_batch_norm=frozen)
    trained = Student.load(tmp_path).state_dict()
    start = case.make_task().student.state_dict()
    names = [name for name in start if name.endswith("running_mean")]
    assert names
    assert all(torch.equal(trained[name], start[name]) == frozen for name in names)


def test_train__a_frozen_backbone_stays(case: Any, tmp_path: Path) -> None:
    case.run(tmp_path, epochs=2, backbone_lr_scale=0)
    trained, start = Student.load(tmp_path), case.make_task().student
    for (name, one), (_, two) in zip(trained.backbone_parameters(), start.backbone_parameters(), strict=True):
        assert torch.equal(one, two), name
    assert not torch.equal(trained.state_dict()["head.weight"], start.state_dict()["head.weight"])


def test_train__evaluates_every_few_epochs_and_at_the_end(case: Any, tmp_path: Path) -> None:
    result = case.run(tmp_path, epochs=5, eval_every=2)
    assert [row["epoch"] for row in result.history if "val" in row] == [2, 4, 5]


def test_train__a_figure_that_evaluation_does_not_give(case: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'cosine_mean' chooses the best epoch, but evaluation gives top1"):
        case.run(tmp_path, score=lambda student: {"top1": 0.5})


def test_train__the_earlier_of_two_equal_epochs_is_best(case: Any, tmp_path: Path) -> None:
    result = case.run(tmp_path, score=lambda student: {"cosine_mean": 0.5})
    assert result.best_epoch == 1


def test_train__gives_the_task_back(case: Any, tmp_path: Path) -> None:
    task = case.make_task()
    case.run(tmp_path, task=task, epochs=2)
    assert "forward" not in vars(task)


@pytest.mark.integration
def test_train__a_full_disk(case: Any, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 700_000)
    with pytest.raises(EdgeproofError, match="No space left"):
        case.run(small_disk / "train")
    (small_disk / "filler").unlink()


@pytest.mark.integration
def test_train__a_folder_that_cannot_be_written(case: Any, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(EdgeproofError, match="Read-only"):
        case.run(small_disk, log=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_train__compiled(case: Any, tmp_path: Path) -> None:
    settings = {"model": PLAIN | {"depth": 1}, "epochs": 2, "ema": False}
    plain = case.run(tmp_path / "plain", **settings)
    compiled = case.run(tmp_path / "compiled", compile=True, **settings)
    assert compiled.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=1e-3)
    assert case.evaluate(Student.load(tmp_path / "compiled")) == pytest.approx(compiled.best, rel=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_train__on_a_gpu(precision: str, case: Any, tmp_path: Path) -> None:
    settings = {
        "terms": [{"kind": "cosine_embedding"}],
        "epochs": 4,
        "precision": precision,
        "device": "cuda",
    }
    for step in (5, 9):
        with pytest.raises(StopError):
            case.run(tmp_path, loader=stop_at(case, step), **settings)
    result = case.run(tmp_path, **settings)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert case.evaluate(Student.load(tmp_path)) == pytest.approx(result.best, abs=0.01)


def test_train__dropout_and_mixing_draw_from_streams_of_their_own(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[tuple[int, int]] = []

    def watched(batch: Any, config: Any, generator: torch.Generator) -> Any:
        seeds.append((torch.initial_seed(), generator.initial_seed()))
        return mixed(batch, config, generator)

    monkeypatch.setattr(loop, "mixed", watched)
    case.run(tmp_path, epochs=2, mix={"mixup": 0.8}, model=PLAIN)
    assert len(seeds) == 12
    assert len({seed for both in seeds for seed in both}) == 24
