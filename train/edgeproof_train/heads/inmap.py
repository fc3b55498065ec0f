"""InMaP: class proxies among the images themselves, found without labels."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import Fraction, PositiveFloat, PositiveInt
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.evidence import Evidence, Part, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.marginal import Marginal, chosen_marginal, tempered
from edgeproof_train.heads.prior import effective_classes, estimate_prior
from edgeproof_train.heads.proxies import ProxyProblem, accelerate, descend
from edgeproof_train.heads.sinkhorn import SoftLabels, class_sums, column_factors

NonNegative = Annotated[float, Field(ge=0)]
EM_ROWS = 20_000
"""Most images that the prior is estimated on."""


@register("head")
class InMaP(FittedKind):
    """`logits = e/|e| W' / t`, W proxies that explain soft labels of the images (InMaP, arXiv 2310.19752).

    Zero-shot probabilities are balanced to a class marginal (Sinkhorn), made one-hot where they are sure, and
    W minimises their cross-entropy over unit rows. It is transductive: it adapts to the images it is asked
    about, and how often classes occur among them matters. A uniform marginal does harm where they are
    imbalanced; `auto` looks at the images and keeps to the mean of the probabilities unless evener fits.
    """

    class Config(FittedConfig):
        """How the labels are balanced and the proxies found.

        Attributes:
            prior: the marginal: `auto`, `uniform`, `pseudo` (mean probabilities to the power gamma), `em`
                (label shift by EM), or a share for each class.
            gamma: of `pseudo`; 0 is uniform, 1 leaves the probabilities as they are.
            dirichlet: strength of the Dirichlet prior of `em`; 1 is maximum likelihood.
            confident: probability above which a soft label becomes one-hot.
            temperature: t, of the proxies.
            balance_steps: iterations of Sinkhorn's balance.
            solver: `fast` (L-BFGS, stops early) or `plain` (the paper's steps, all of them).
            steps: most passes over the images; 120 for fast, 2000 for plain if not given.
        """

        kind: Literal["inmap"] = "inmap"
        prior: Literal["auto", "uniform", "pseudo", "em"] | tuple[NonNegative, ...] = "auto"
        gamma: Fraction | None = None
        dirichlet: Annotated[float, Field(ge=1)] | None = None
        confident: Fraction = 0.6
        temperature: PositiveFloat = 0.04
        balance_steps: PositiveInt = 20
        solver: Literal["fast", "plain"] = "fast"
        steps: PositiveInt | None = None

        @model_validator(mode="after")
        def _no_idle_setting(self) -> InMaP.Config:
            for name, prior in (("gamma", "pseudo"), ("dirichlet", "em")):
                if getattr(self, name) is not None and self.prior != prior:
                    raise ValueError(f"{name} has an effect only with prior: {prior}")
            if not isinstance(self.prior, str) and sum(self.prior) <= 0:
                raise ValueError("prior gives no class a share")
            if not self.use_text:
                raise ValueError("inmap starts from text embeddings: use_text must be true")
            return self

    is_matrix: ClassVar[bool] = True
    needs: ClassVar[frozenset[Part]] = frozenset({"text", "unlabelled"})
    transductive: ClassVar[bool] = True

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the proxies of the unlabelled images.

        Raises:
            DataError: there is no text or no unlabelled image, or a prior is not one share a class.
        """
        require(evidence, "text", "unlabelled", kind="inmap")
        text, images = evidence.text, evidence.unlabelled
        assert text is not None
        assert images is not None
        found = marginal_of(config, evidence, text, images)
        labels = SoftLabels(images, text, 1 / evidence.logit_scale)
        factors = column_factors(labels, found.marginal, config.balance_steps)
        problem = ProxyProblem(images, class_sums(labels, factors, config.confident), config.temperature)
        if config.solver == "plain":
            proxies = descend(problem, text, steps=config.steps or 2000)
        else:
            proxies = accelerate(problem, text, steps=config.steps or 120)
        head = LinearHead(evidence.names, proxies.weight, None, 1 / config.temperature)
        chosen = {
            "prior": found.name,
            "effective_classes": round(found.effective, 4),
            "images": len(images),
            "steps": proxies.steps,
        }
        return Fitted(head, chosen, (found.note,))


def marginal_of(config: Any, evidence: Evidence, text_KD: np.ndarray, images_ND: np.ndarray) -> Marginal:
    """Return the marginal that a config asks for.

    Raises:
        DataError: a prior is given, and not one share a class.
    """
    temperature = 1 / evidence.logit_scale
    if config.prior == "auto":
        return chosen_marginal(
            images_ND, text_KD, temperature, config.temperature, config.confident, config.seed
        )
    labels = SoftLabels(images_ND, text_KD, temperature)
    masses = labels.masses()
    effective = effective_classes(masses) / len(masses)
    said = f"effective classes {effective:.2f} of all"
    if config.prior == "em":
        strength = config.dirichlet or 1.0
        rows = np.linspace(0, len(images_ND) - 1, min(len(images_ND), EM_ROWS)).astype(np.int64)
        found = estimate_prior(labels.rows(rows), strength=strength).prior
        return Marginal(found, f"em {strength:g}", effective, f"{said}; the prior was estimated by EM")
    if isinstance(config.prior, tuple):
        if len(config.prior) != len(masses):
            raise DataError(
                f"head inmap: a prior of {len(config.prior)} shares for {len(masses)} classes",
                fix="give one each",
            )
        given = np.array(config.prior, np.float64)
        return Marginal(given / given.sum(), "given", effective, f"{said}; the prior was given")
    gamma = 0.0 if config.prior == "uniform" else 1.0 if config.gamma is None else config.gamma
    name = "uniform" if config.prior == "uniform" else f"pseudo {gamma:g}"
    return Marginal(tempered(masses, gamma), name, effective, f"{said}; gamma {gamma:g} was given")
