"""From a recipe's file to a validated `Recipe`: every problem at once, and where each value came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from edgeproof_configs.checks import check
from edgeproof_configs.errors import Problem, RecipeError, did_you_mean
from edgeproof_configs.overrides import SET, apply_overrides
from edgeproof_configs.recipe_files import (
    digest_of_source,
    find_recipe,
    read_recipe_bytes,
    recipe_names,
    recipe_path,
    source_digest,
)
from edgeproof_configs.registry import discover
from edgeproof_configs.schema import SLOTS, BaselineConfig, Components, CompressConfig, Parts, Plain, Recipe
from edgeproof_configs.wording import Finding, explain, got, missing_key, models_in, unknown_key
from edgeproof_configs.yaml_source import KeyPath, YamlDocument, dotted, entry, holds, parse_yaml

__all__ = ["LoadedRecipe", "load_recipe", "recipe_names", "recipe_path", "source_digest"]

MAX_PROBLEMS = 50
HOLDING: dict[str, type[BaseModel]] = {"compress": CompressConfig, "baseline": BaselineConfig}
"""Sections that hold components of their own."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A valid recipe.

    Attributes:
        recipe: the settings, with the config of each component in place.
        plain: the same as JSON-able data, defaults included.
        provenance: for each value by its dotted key: `recipe.yaml:12`, `--set` or `default`.
        source_digest: of the recipe's bytes, the overrides and this version.
        file: where the recipe was read.
        overrides: what `--set` changed.
    """

    recipe: Recipe
    plain: Plain
    provenance: dict[str, str]
    source_digest: str
    file: Path
    overrides: tuple[str, ...]


def load_recipe(path_or_name: str, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, override and validate a recipe.

    Args:
        path_or_name: a file, or the name of a shipped recipe.
        overrides: `a.b=value` texts, in the order given.

    Raises:
        UsageError: there is no such recipe.
        RecipeError: everything that is wrong with it.
        MissingPackageError: a package that a whole group of components needs is not installed.
    """
    file = find_recipe(path_or_name)
    data = read_recipe_bytes(file)
    document = parse_yaml(data, str(file))
    if document.plain is None:
        raise RecipeError(document.problems)
    given: Plain = document.plain
    set_paths, set_problems = apply_overrides(given, overrides)
    places = _Places(str(file), document, set_paths)
    recipe, findings = _validate(given)
    problems = [*document.problems, *set_problems]
    problems += [places.problem(path, message) for path, message in findings]
    if problems or recipe is None:
        raise RecipeError(_in_order(problems))
    plain = recipe.model_dump(mode="json")
    provenance = {dotted(path): places.origin(path, given, file.name) for path in _leaves(plain)}
    return LoadedRecipe(recipe, plain, provenance, digest_of_source(data, overrides), file, tuple(overrides))


def peek_name(path_or_name: str, overrides: Sequence[str] = ()) -> str:
    """Return a recipe's name without validating the rest.

    Raises:
        RecipeError: there is no usable name in it; everything else that is wrong is told as well.
    """
    document = parse_yaml(read_recipe_bytes(find_recipe(path_or_name)), path_or_name)
    plain = document.plain or {}
    apply_overrides(plain, overrides)
    name, findings = _section(get_type_hints(Recipe, include_extras=True)["name"], plain.get("name"), str)
    return load_recipe(path_or_name, overrides).recipe.name if findings else name


def component_config(group: str, plain: Plain) -> Any:
    """Return the validated config of one component, for callers that need no more of a recipe.

    Raises:
        RecipeError: it is not valid.
    """
    config, findings = _component(group, plain, None)
    if findings:
        raise RecipeError([Problem(group, None, dotted(path), message) for path, message in findings])
    return config


def _in_order(problems: list[Problem]) -> list[Problem]:
    ordered = sorted(problems, key=lambda problem: (problem.file == SET, problem.line or 0))
    rest = len(ordered) - MAX_PROBLEMS
    if rest <= 0:
        return ordered
    return [*ordered[:MAX_PROBLEMS], Problem(ordered[0].file, None, "", f"and {rest} more problems")]


def _validate(given: Plain) -> tuple[Recipe | None, list[Finding]]:
    """Validate each section by itself, so that no problem hides another, then the whole."""
    findings = list(_wrong_keys(given))
    sections: dict[str, Any] = {}
    hints = get_type_hints(Recipe, include_extras=True)
    for key in Recipe.model_fields:
        if key not in given:
            continue
        if key in HOLDING and isinstance(given[key], dict):
            sections[key], found = _with_components(HOLDING[key], given[key])
        elif key not in SLOTS:
            sections[key], found = _section(hints[key], given[key], Recipe.model_fields[key].annotation)
        elif get_origin(Recipe.model_fields[key].annotation) is list:
            sections[key], found = _components(SLOTS[key], given[key])
        else:
            base: Any = Recipe.model_fields[key].annotation
            sections[key], found = _component(SLOTS[key], given[key], base.model_fields["kind"].default)
        findings += [((key, *path), message) for path, message in found]
    if findings:
        return None, findings
    try:
        recipe = Recipe.model_validate(sections)
    except ValidationError as error:
        return None, explain(error, sections, Recipe)
    return recipe, check(recipe)


def _wrong_keys(given: Plain) -> Iterator[Finding]:
    """Yield the top-level keys that are unknown or missing."""
    meant = set()
    for key in given:
        if key not in Recipe.model_fields:
            message, suggestion = unknown_key(key, list(Recipe.model_fields))
            meant.add(suggestion)
            yield (key,), message if suggestion else _perhaps_inside(key) or message
    for key, field in Recipe.model_fields.items():
        if field.is_required() and key not in given and key not in meant:
            yield (key,), missing_key(Recipe, key)


def _perhaps_inside(key: str) -> str:
    """Say in which section a key that stands at the top level belongs."""
    for section, field in Recipe.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel) and key in model.model_fields:
            return f"unknown key at the top level. Did you mean '{section}.{key}'?"
    return ""


def _section(hint: Any, value: Any, annotation: Any) -> tuple[Any, list[Finding]]:
    """Validate one section strictly: no text is taken for a number, no number for true or false."""
    model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    if model is None:
        models = [part for part in getattr(annotation, "__args__", ()) if isinstance(part, type)]
        model = next((part for part in models if issubclass(part, BaseModel)), None)
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True), []
    except ValidationError as error:
        return None, explain(error, value, model)


def _components(group: str, values: Any) -> tuple[list[Any], list[Finding]]:
    if not isinstance(values, list) or not values:
        return [], [((), f"expected a list of mappings with a kind, got {got(values)}")]
    configs, findings = [], []
    for index, value in enumerate(values):
        config, found = _component(group, value, None)
        configs.append(config)
        findings += [((index, *path), message) for path, message in found]
    return configs, findings


def _component(group: str, value: Any, default_kind: Any) -> tuple[Any, list[Finding]]:
    """Validate one component with the config class that its `kind` names."""
    known = discover(group)
    if not isinstance(value, dict):
        hint = f". Did you mean {{kind: {value}}}?" if isinstance(value, str) and value in known else ""
        return None, [((), f"expected a mapping with a kind, got {got(value)}{hint}")]
    kind = value.get("kind", default_kind if isinstance(default_kind, str) else None)
    allowed = f"one of {', '.join(known) or 'none'}"
    if "kind" not in value and kind is None:
        return None, [(("kind",), f"missing, expected {allowed}")]
    if not isinstance(kind, str) or kind not in known:
        hint = did_you_mean(kind, list(known)) if isinstance(kind, str) else ""
        return None, [(("kind",), f"expected {allowed}, got {got(kind)}{'.' if hint else ''}{hint}")]
    config_class: Any = known[kind].__dict__["Config"]
    return _with_components(config_class, {"kind": kind, **value})


def _with_components(config_class: type[BaseModel], plain: Plain) -> tuple[Any, list[Finding]]:
    """Validate a component, and each component inside of it with the config of its own kind."""
    inner: dict[str, Any] = {}
    findings: list[Finding] = []
    outside = dict(plain)
    for key, field in config_class.model_fields.items():
        mark = _mark(field)
        if mark is None or plain.get(key) is None:
            continue
        inner[key], found = _inside(mark, field.annotation, plain[key])
        findings += [((key, *path), message) for path, message in found]
        if inner[key]:
            outside[key] = _reduced(field.annotation, inner[key])
    refused = {path[0] for path, _ in findings}
    config, found = _section(config_class, outside, config_class)
    findings += [(path, message) for path, message in found if not path or path[0] not in refused]
    if findings:
        return None, findings
    found_in = {key: tuple(held) if isinstance(held, list) else held for key, held in inner.items()}
    return config.model_copy(update=found_in), []


def _mark(field: Any) -> Components | Parts | None:
    return next((mark for mark in field.metadata if isinstance(mark, Components | Parts)), None)


def _inside(mark: Components | Parts, annotation: Any, value: Any) -> tuple[Any, list[Finding]]:
    """Validate what lies in a field of a component: components, one component, or parts that hold some."""
    if isinstance(mark, Components):
        several = tuple in (get_origin(annotation), *map(get_origin, get_args(annotation)))
        return _components(mark.group, value) if several else _component(mark.group, value, None)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return [], [((), f"expected a list of mappings, got {got(value)}")]
    found = [_with_components(next(models_in(annotation)), one) for one in value]
    findings = [((index, *path), message) for index, (_, told) in enumerate(found) for path, message in told]
    return [config for config, _ in found], findings


def _reduced(annotation: Any, inner: Any) -> Any:
    """Return components as the config around them sees them: those settings that their base class has.

    What is wrong inside is told already, and must not hide what the list as a whole lacks.
    """
    if isinstance(inner, list | tuple):
        return [_reduced(annotation, one) for one in inner]
    if inner is None:
        return {"kind": "?"}
    base = next(models_in(annotation))
    told = inner.model_dump(mode="json", include=set(base.model_fields))
    for key, field in base.model_fields.items():
        if _mark(field) and getattr(inner, key) is not None:
            told[key] = _reduced(field.annotation, getattr(inner, key))
    return told


class _Places:
    """Where each key of a recipe was written."""

    def __init__(self, file: str, document: YamlDocument, set_paths: Sequence[KeyPath]):
        self._file = file
        self._set = set(set_paths)
        self._lines = {
            path: line
            for path, line in document.lines.items()
            if not any(path[: len(changed)] == changed for changed in self._set)
        }

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Return a problem with the place of its key, or of the nearest parent that was written."""
        line = self._find(path)
        return Problem(SET if line is None else self._file, line, dotted(path), message)

    def origin(self, path: KeyPath, given: Plain, file: str) -> str:
        """Return where the value of a leaf came from."""
        inside: Any = given
        for key in path:
            if not isinstance(inside, dict | list):
                break
            if not holds(inside, key):
                return "default"
            inside = entry(inside, key)
        line = self._find(path)
        return SET if line is None else f"{file}:{line}"

    def _find(self, path: KeyPath) -> int | None:
        """Return the line of the nearest written parent; None if it was given by `--set`."""
        for length in range(len(path), -1, -1):
            nearest = path[:length]
            if nearest in self._lines:
                return self._lines[nearest]
            if nearest in self._set or any(changed[:length] == nearest for changed in self._set):
                return None
        return 1


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every value; a list of plain values is one value."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path
