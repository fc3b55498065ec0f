"""A cascade on the device: who answers, what is passed on, fewer labels, and files that hold none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeproof_deploy.runtime.cascade_head import LEAST, CascadeHead
from edgeproof_deploy.runtime.cascade_step import NEVER, Step
from edgeproof_deploy.runtime.head_form import Head, softmax
from edgeproof_deploy.runtime.linear_head import LinearHead

LABELS = ("yak", "cup", "pug", "poodle")
AXES = np.eye(4, dtype=np.float32)


def linear(rows: list[int], scale: float = 1.0) -> LinearHead:
    """A head for some labels whose score of label k is `scale * e_k`."""
    return LinearHead(tuple(LABELS[row] for row in rows), AXES[rows], None, scale)


def three_steps(combine: str = "switch", threshold: float = 0.0, least_share: float = 0.0) -> CascadeHead:
    """Yak by the first step, cup by the second, dogs by a specialist that has them in another order."""
    steps = (
        Step(np.arange(4), np.array([1, 0, 0, 0]), threshold, head=linear([0, 1, 2, 3], 4.0)),
        Step(np.array([1, 2, 3]), np.array([1, 0, 0]), head=linear([1, 2, 3], 4.0)),
        Step(np.array([2, 3]), np.array([1, 1]), specialist="dogs", columns=np.array([2, 0]), classes=3),
    )
    return CascadeHead(LABELS, steps, combine, least_share)  # pyright: ignore[reportArgumentType]


class Specialist:
    """Says poodle with two nats more than pug; remembers who was asked about."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, name: str, images: np.ndarray) -> np.ndarray:
        assert name == "dogs"
        self.asked += images.tolist()
        return np.tile(np.array([2.0, 9.0, 0.0], np.float32), (len(images), 1))


def test_routed__each_step_answers_its_own_and_only_dogs_reach_the_specialist() -> None:
    specialist = Specialist()
    found = three_steps().routed(AXES, specialist)
    assert found.answered.tolist() == [0, 1, 2, 2]
    assert found.arrived.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert specialist.asked == [2, 3]
    assert found.logits.argmax(axis=1).tolist() == [0, 1, 3, 3]
    # The first step gives the yak e^4 / (e^4 + 3); the specialist gives the poodle e^2 / (e^2 + 1).
    assert softmax(found.logits)[0, 0] == pytest.approx(math.exp(4) / (math.exp(4) + 3), abs=1e-6)
    assert softmax(found.logits)[2] == pytest.approx(
        [0, 0, 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))], abs=1e-6
    )
    assert found.logits[2, :2].max() < LEAST


def test_routed__passes_on_what_is_not_sure() -> None:
    share = math.exp(4) / (math.exp(4) + 3)
    sure, unsure = (three_steps(threshold=share + change).routed(AXES[:1]) for change in (-1e-6, 1e-6))
    assert sure.answered.tolist() == [0]
    # Passed on, a yak looks like nothing that the second step knows: the first of equal labels is the cup.
    assert unsure.answered.tolist() == [1]
    assert three_steps(threshold=NEVER).routed(AXES[:1]).answered.tolist() == [1]


def test_routed__product_is_the_chain_rule() -> None:
    embeddings = np.array([[0.5, 0.3, 0.6, 0.1]], np.float32)
    found = softmax(three_steps("product").routed(embeddings, Specialist()).logits)[0]
    unit = embeddings[0] / np.linalg.norm(embeddings[0])
    first, second = softmax(4 * unit[None])[0], softmax(4 * unit[None, 1:])[0]
    third = softmax(np.array([[0.0, 2.0]]))[0]
    passed = 1 - first[0]
    wanted = [first[0], passed * second[0], *(passed * (1 - second[0]) * third)]
    assert found == pytest.approx(wanted, abs=1e-6)
    assert found.sum() == pytest.approx(1, abs=1e-6)


def test_routed__product_asks_nobody_for_a_share_that_is_too_small() -> None:
    specialist = Specialist()
    sharp = CascadeHead(LABELS, three_steps().steps, "product", 0.9)
    found = sharp.routed(AXES[:1], specialist)
    assert specialist.asked == []
    assert found.arrived.tolist() == [[True, False, False]]
    assert softmax(found.logits) == pytest.approx(softmax(4 * AXES[:1]), abs=1e-6)


def test_routed__temperature_divides_the_scores() -> None:
    step = Step(np.arange(4), np.ones(4), temperature=2.0, head=linear([0, 1, 2, 3], 4.0))
    found = CascadeHead(LABELS, (step,)).probabilities(AXES)
    assert found == pytest.approx(softmax(2 * AXES), abs=1e-6)


def test_routed__in_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    whole = three_steps().routed(embeddings, Specialist())
    monkeypatch.setattr("edgeproof_deploy.runtime.cascade_head.BLOCK", 7)
    parts = three_steps().routed(embeddings, Specialist())
    assert np.array_equal(whole.logits, parts.logits)
    assert np.array_equal(whole.answered, parts.answered)


def test_routed__no_images() -> None:
    assert three_steps().routed(np.zeros((0, 4), np.float32)).logits.shape == (0, 4)


def test_logits__without_anybody_to_ask() -> None:
    assert three_steps().logits(AXES[:2]).argmax(axis=1).tolist() == [0, 1]
    with pytest.raises(ValueError, match="specialist dogs looks at images"):
        three_steps().logits(AXES)


def test_asking__asks_about_the_images_that_it_was_narrowed_to() -> None:
    specialist = Specialist()
    narrowed = three_steps().asking(specialist).at(np.array([3, 0, 2])).at(np.array([2, 1]))
    assert narrowed.logits(AXES[[2, 0]]).argmax(axis=1).tolist() == [3, 0]
    assert specialist.asked == [2]
    with pytest.raises(ValueError, match="3 embeddings for 2 images"):
        narrowed.logits(AXES[:3])


def test_log_shares__specialist_with_other_scores() -> None:
    with pytest.raises(ValueError, match=r"gives \(2, 4\), expected \(2, 3\)"):
        three_steps().routed(AXES, lambda name, images: np.zeros((len(images), 4), np.float32))


@pytest.mark.parametrize(("labels", "steps"), [(("poodle", "cup"), 2), (("yak",), 1), (("pug", "poodle"), 1)])
def test_only__each_step_keeps_what_it_knows(labels: tuple[str, ...], steps: int) -> None:
    fewer = three_steps().only(labels)
    assert isinstance(fewer, CascadeHead)
    assert fewer.labels == labels
    assert len(fewer.steps) == steps
    found = fewer.routed(AXES, Specialist()).logits
    best = [labels[row] for row in found.argmax(axis=1)]
    assert best == (["yak"] * 4 if labels == ("yak",) else best)
    if labels == ("poodle", "cup"):
        # The second step knows both and answers cups: with nothing of either, the first of equals is asked.
        assert best[1] == "cup"
        assert best[3] == "poodle"


def read(labels: tuple[str, ...], arrays: dict[str, np.ndarray], said: dict[str, str]) -> Head:
    assert said["form"] == "linear"
    return LinearHead.from_arrays(labels, arrays)


def test_from_arrays__reads_what_was_stored() -> None:
    head = three_steps("product", 0.25, 0.05)
    again = CascadeHead.from_arrays(LABELS, head.arrays(), head.described(), read)
    embeddings = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    assert np.array_equal(
        head.routed(embeddings, Specialist()).logits, again.routed(embeddings, Specialist()).logits
    )
    assert again.specialists == {"dogs": 3}
    assert (again.combine, again.least_share, again.steps[0].threshold) == ("product", 0.05, 0.25)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", np.array(33), "33 steps, expected 1 to 32"),
        ("steps", np.array(np.nan), "nan steps"),
        ("steps", np.array(2), "has an array '2.rows'"),
        ("0.rows", np.array([0, 1, 2, 2]), "name a position twice"),
        ("0.rows", np.array([0, 1, 2, 9]), "rows name label 9 of 4"),
        ("0.rows", np.array([-1, 1, 2, 3]), "expected positions"),
        ("0.answers", np.array([2, 0, 0, 0]), "expected 0 or 1"),
        ("0.answers", np.array([0, 0, 0, 0]), "1 labels are answered by no step, such as .'yak'"),
        ("0.threshold", np.array(np.nan), "threshold is nan"),
        ("0.temperature", np.array(0.0), "expected more than 0"),
        ("0.extra", np.array(0.0), "has an array 'extra'"),
        ("2.columns", np.array([0, 3]), "not those of the labels"),
        ("2.classes", np.array(2.0**70), "classes"),
        ("least_share", np.array(-1.0), "least_share is -1"),
        ("width", np.array(5), "embeddings of one width"),
        ("width", np.array(0), "embeddings of 0 numbers"),
    ],
)
def test_from_arrays__file_that_holds_no_cascade(name: str, value: np.ndarray, message: str) -> None:
    head = three_steps()
    with pytest.raises(ValueError, match=message):
        CascadeHead.from_arrays(LABELS, head.arrays() | {name: value}, head.described(), read)


@pytest.mark.parametrize("specialist", ["", "../dogs", "a/b", ".hidden", "x" * 200])
def test_from_arrays__name_that_is_no_folder(specialist: str) -> None:
    head = three_steps()
    with pytest.raises(ValueError, match="a specialist is called"):
        CascadeHead.from_arrays(LABELS, head.arrays(), head.described() | {"2.specialist": specialist}, read)


def test_cascade_head__a_cascade_is_no_step() -> None:
    inner = CascadeHead(LABELS, (Step(np.arange(4), np.ones(4), head=linear([0, 1, 2, 3])),))
    with pytest.raises(ValueError, match="none a cascade itself"):
        CascadeHead(LABELS, (Step(np.arange(4), np.ones(4), head=inner),))
