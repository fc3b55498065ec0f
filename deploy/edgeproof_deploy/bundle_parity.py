"""Parity of a bundle on this machine: every model in every engine that runs here, against what is stored.

Needs no torch: a user's own build server checks a bundle with what the device has.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from edgeproof_configs.errors import EdgeproofError, GateError
from edgeproof_configs.schema import GatesConfig
from edgeproof_deploy.batches import batch_gate, order_gates
from edgeproof_deploy.bundle import tampered
from edgeproof_deploy.bundle_images import embed_folder, vocabulary_of
from edgeproof_deploy.bundle_models import Model, Opened, open_models, skipped_lines
from edgeproof_deploy.claims import Claim
from edgeproof_deploy.engine_claims import claims_of
from edgeproof_deploy.gates import FAIL, NOT_MEASURED, GateResult, Limits, Step, at_most, limits_of
from edgeproof_deploy.numerics import numerics
from edgeproof_deploy.parity import Form, PairParity, compare_pair
from edgeproof_deploy.parity_report import Judged, Parity, parity_of
from edgeproof_deploy.runtime.bundle import ENGINES_FOLDER, Bundle
from edgeproof_deploy.runtime.cascade_head import CascadeHead
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.head import Head, read_head
from edgeproof_deploy.runtime.plans import batches
from edgeproof_deploy.runtime.predictor import PREPROCESS_FILE
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.self_test import REFERENCE, SelfTest, alike, read_self_test, self_test_inputs
from edgeproof_deploy.runtime.session import MODEL_FILE, OnnxSession, Session
from edgeproof_deploy.runtime.specialists import Specialists

SLACK = 0.01
"""How much smaller the cosine to the fp32 student may be than it was when the bundle was made."""
SHOWN = 3


@dataclass
class BundleParity:
    """What was found out about a bundle.

    Attributes:
        path: of the bundle.
        pairs: each model here, against what it gave when the bundle was made, and against the fp32 student.
        gates: of the bundle as a whole: its preprocessing.
        others: models that are compared with nothing: in a bundle without images; and those that do not run
            here though the bundle carries a plan of them, with the reason.
        claims: whether INT8, half precision and sparsity are what they are called.
        skipped: lines about engines that are not here.
        said: what it was compared on.
    """

    path: Path
    pairs: list[PairParity] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    others: list[Judged] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def parity(self) -> Parity:
        """Everything that has gates."""
        whole = [Judged("preprocessing", self.gates)] if self.gates else []
        return Parity([*whole, *parity_of(self.pairs).judged, *self.others], self.claims)

    def failures(self, *, strict: bool = False) -> list[str]:
        """Return the gates that failed, in words; with `strict` also those that were not measured."""
        return [one.words(gate) for one, gate in self.parity.of(FAIL, *((NOT_MEASURED,) if strict else ()))]

    def raise_failures(self, *, strict: bool = False) -> None:
        """Raise if a gate failed.

        Raises:
            GateError: exit code 3, naming up to three gates.
        """
        failed = self.failures(strict=strict)
        if failed:
            more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
            raise GateError("; ".join(failed[:SHOWN]) + more, where=self.path)

    def assert_parity(self, *, strict: bool = False) -> None:
        """Assert that every gate holds, for tests.

        Raises:
            AssertionError: names every gate that failed; with `strict` also those that were not measured.
        """
        failed = self.failures(strict=strict)
        if failed:
            raise AssertionError("\n".join([f"{self.path}: {len(failed)} gates failed", *failed]))


def check_bundle(
    path: str | Path,
    images: str | Path | None = None,
    *,
    engines: Sequence[str] | None = None,
    threads: int | None = None,
    rebuild: bool = False,
) -> BundleParity:
    """Compare every model of a bundle, in every engine that runs here, with what is stored.

    On the images that the bundle carries a model must give what it gave when the bundle was made. On the
    user's images it must be as near to the fp32 model in ONNX Runtime, unoptimised, as the gates of the
    bundle's recipe ask; images in folders that are called like labels are scored, too.

    Args:
        path: a folder or a `.tar`.
        images: a folder of images; None: those that the bundle carries.
        engines: compare these only; None: all that run here.
        threads: within one operator; None leaves the choice to the engines.
        rebuild: build plans that do not fit this machine again.

    Raises:
        EdgeproofError: a file of the bundle was changed.
        MissingPackageError: nothing runs here.
        UsageError: there is no such engine.
    """
    place = Path(path)
    found = BundleParity(place)
    with ExitStack() as stack:
        opened = open_models(place, stack, threads, engines=engines or (), rebuild=rebuild)
        try:
            preprocess = Preprocess.from_dict(opened.bundle.read_json(PREPROCESS_FILE))
            test = read_self_test(opened.bundle)
            if test is not None:
                on_own_images(found, opened, test, preprocess)
            if images is not None:
                on_users_images(found, opened, Path(images), preprocess, threads, stack)
            elif test is None:
                on_noise(found, opened, preprocess)
            found.claims = claims_in_bundle(opened)
        except (BundleError, ValueError) as error:
            reason = error if isinstance(error, BundleError) else BundleError(PREPROCESS_FILE, str(error))
            raise tampered(reason, place) from error
        found.others += absent_plans(opened)
        found.skipped = skipped_lines(opened.skipped)
    return found


def on_own_images(found: BundleParity, opened: Opened, test: SelfTest, preprocess: Preprocess) -> None:
    """Compare every model with what it gave for the bundle's images when the bundle was made."""
    inputs, differing = self_test_inputs(opened.bundle, test, preprocess)
    found.gates.append(at_most("pixels", float(len(differing)), 0.0))
    photos = test.photos
    what = "photos" if preprocess.views is None else "objects"
    found.said.append(f"{photos} {what} and {len(inputs) - photos} drawn images that the bundle carries")
    if differing:
        found.said.append(f"their pixels differ from those when it was made: {', '.join(differing)}")
    edges = [image.file for image in test.images[photos:]]
    reference = Form("pytorch fp32", embeddings=test.outputs[REFERENCE][:photos])
    for model, session in opened.sessions.items():
        if model.file not in test.limits:
            continue
        name = session.input_name
        rows = np.concatenate([session.run({name: image[None]})["embedding"] for image in inputs])
        stored = test.outputs[model.file]
        here = Form(model.form, model.engine, model.precision, rows[:photos], edges=rows[photos:])
        before = Form(f"{model.file} when made", embeddings=stored[:photos], edges=stored[photos:])
        limits = Limits(cosine=test.limits[model.file], edge_cosine=test.edge_limits.get(model.file))
        if not photos:
            limits = replace(limits, cosine=None)
        pair = compare_pair(before, here, limits, None, edges)
        some = alike(inputs)[:9]
        pair.gates.extend([batch_gate(session, some, batches(opened.bundle)), *order_gates(session, some)])
        found.pairs.append(pair)
        if photos and model.file != MODEL_FILE:
            was = numerics(test.outputs[REFERENCE][:photos], stored[:photos]).cosine_min
            limit = None if was is None else round(was - SLACK, 4)
            found.pairs.append(compare_pair(reference, replace(here, edges=None), Limits(cosine=limit)))


def on_users_images(
    found: BundleParity,
    opened: Opened,
    folder: Path,
    preprocess: Preprocess,
    threads: int | None,
    stack: ExitStack,
) -> None:
    """Compare every model with the fp32 one in ONNX Runtime, not optimised, on a user's images."""
    bundle = opened.bundle
    base = MODEL_FILE if MODEL_FILE in bundle.listed else next(iter(opened.sessions)).file
    plain = OnnxSession(bundle.read(base), threads=threads, name=base, optimise=False)
    stack.callback(plain.close)
    sessions: dict[str, Session] = {"": plain, **{m.name: s for m, s in opened.sessions.items()}}
    seen = embed_folder(folder, preprocess, sessions)
    head = head_for(bundle, seen.files, threads, stack)
    vocabulary = vocabulary_of(head, seen.files, folder, of_objects=preprocess.views is not None)
    labelled = 0 if vocabulary is None else int((vocabulary.labels >= 0).sum())
    what = "images" if preprocess.views is None else "objects"
    found.said.append(f"{len(seen.files)} {what} of {folder}, {labelled} of them with a label of the bundle")
    if seen.broken:
        found.said.append(f"{len(seen.broken)} images cannot be read, the first: {seen.broken[0]}")
    reference = Form("student", "onnxruntime unoptimised", embeddings=seen.rows[""])
    gates = gates_of_recipe(bundle)
    for model, session in opened.sessions.items():
        here = Form(model.form, model.engine, model.precision, seen.rows[model.name])
        limits = limits_on_images(model, gates, labelled=labelled > 0, decides=vocabulary is not None)
        pair = compare_pair(reference, here, limits, vocabulary)
        pair.gates.extend(
            [batch_gate(session, seen.first, batches(bundle)), *order_gates(session, seen.first)]
        )
        found.pairs.append(pair)


def head_for(bundle: Bundle, files: list[Path], threads: int | None, stack: ExitStack) -> Head:
    """Return the bundle's head; one that asks specialists is given the images."""
    head = read_head(bundle)
    if not isinstance(head, CascadeHead) or not head.specialists:
        return head
    specialists = Specialists(bundle, head, threads=threads)
    stack.callback(specialists.close)
    return specialists.asked_about(head, files)


def on_noise(found: BundleParity, opened: Opened, preprocess: Preprocess) -> None:
    """Run every model of a bundle without images on noise: it must give numbers, the same in every batch."""
    side = preprocess.image_size
    views = preprocess.views
    noise = np.random.default_rng(0).integers(0, 256, (9 * (views or 1), side, side, 3), dtype=np.uint8)
    inputs = preprocess.normalise(noise)
    if views is not None:
        inputs = inputs.reshape(9, views, *inputs.shape[1:])
    found.said.append("noise only: the bundle carries no images; give some with --images DIR")
    for model, session in opened.sessions.items():
        rows = session.run({session.input_name: inputs})["embedding"]
        broken = float((~np.isfinite(rows).all(axis=1)).sum())
        gates = [at_most("finite", broken, 0.0)]
        if not broken:
            gates += [batch_gate(session, inputs, batches(opened.bundle)), *order_gates(session, inputs)]
        found.others.append(Judged(f"noise -> {model.name}", gates))


def limits_on_images(model: Model, gates: GatesConfig, *, labelled: bool, decides: bool) -> Limits:
    """Return the limits of a model against the fp32 one; those that the images cannot answer are left out."""
    if model.form == "sparse":
        step: Step = "shipped sparse"
        found = limits_of(step, "int8" if model.precision == "int8" else "fp32", gates)
    elif model.precision == "int8":
        found = limits_of("shipped", "int8", gates)
    else:
        step = "export" if model.engine == "onnxruntime" and model.precision == "fp32" else "engine"
        found = limits_of(step, model.precision, gates)
    if not labelled:
        found = replace(found, zero_shot_drop=None)
    return replace(found, edge_cosine=None, agreement=found.agreement if decides else None)


def gates_of_recipe(bundle: Bundle) -> GatesConfig:
    """Return the gates of the recipe that a bundle was made by; the defaults where it names none.

    Raises:
        EdgeproofError: this edgeproof does not know them.
    """
    recipe = bundle.manifest.get("recipe")
    plain = recipe.get("gates") if isinstance(recipe, dict) else None
    try:
        return GatesConfig() if plain is None else GatesConfig.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        told = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise EdgeproofError(
            f"the gates of the bundle's recipe cannot be read: {told}",
            where=bundle.path,
            fix="use the edgeproof that made it, or a newer one",
        ) from error


def claims_in_bundle(opened: Opened) -> list[Claim]:
    """Return the claims of every model, run here or not."""
    found = []
    for model, session in opened.sessions.items():
        found += claims_of_model(opened.bundle, model, session)
    for model, reason in opened.skipped.items():
        if has_plan(opened.bundle, model):
            found += claims_of_model(opened.bundle, model, None, reason)
    return found


def claims_of_model(bundle: Bundle, model: Model, session: Session | None, why_not: str = "") -> list[Claim]:
    """Return the claims of one model; without a session those that its file answers."""
    data, sparse = bundle.read(model.file), model.form == "sparse"
    name, kind = model.name, model.precision
    return claims_of(name, model.engine, data, session, kind, sparse=sparse, why_not=why_not)


def absent_plans(opened: Opened) -> list[Judged]:
    """Return the models whose plans lie in the bundle and do not run here: nothing was measured."""
    gates = GatesConfig()
    return [
        Judged(f"{MODEL_FILE} -> {model.name}", _not_measured(model, gates), reason)
        for model, reason in opened.skipped.items()
        if has_plan(opened.bundle, model)
    ]


def has_plan(bundle: Bundle, model: Model) -> bool:
    """Whether a bundle carries a plan of a model in its engine."""
    key = model.precision if model.form == "student" else f"{model.form}_{model.precision}"
    return any(name.startswith(f"{ENGINES_FOLDER}/{model.engine}-{key}-") for name in bundle.listed)


def _not_measured(model: Model, gates: GatesConfig) -> list[GateResult]:
    limits = limits_on_images(model, gates, labelled=True, decides=True)
    nothing = Form(model.form, model.engine, model.precision)
    return compare_pair(nothing, nothing, limits).gates
