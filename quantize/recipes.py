"""What to quantize and how: recipes are data, named here or read from a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from levit_edge.errors import InputError
from quantize.ranges import ACTIVATION_ERRORS, RANGE_METHODS, ActivationError, RangeMethod
from quantize.scheme import Role, Scheme

Weights = Literal["float32", "float16", "int8"]
_CHOICES: dict[str, tuple[str, ...]] = {
    "weights": ("float32", "float16", "int8"),
    "activations": ("float32", "float16", "int8"),
    "activation_range": RANGE_METHODS,
    "activation_error": ACTIVATION_ERRORS,
    "weight_range": RANGE_METHODS,
}


@dataclass(frozen=True)
class Recipe:
    """How a model is stored and computed.

    ``activation_range`` and ``weight_range`` choose the clipping: ``minmax``, or ``mse``, the range with the least
    squared error. ``activation_error`` says which error: that of the tensor itself, or the one ``behind`` it, which is
    that of the Hardswish where only Hardswish reads the tensor, and allows no clipping where only attention or the
    residual stream does. ``keep_float`` names tensors (``stem.0 output``: :mod:`quantize.names`) and roles of
    tensors (:class:`quantize.scheme.Role`) that stay float where the target would store them as integers; None leaves
    it to the target. ``rescale_channels`` makes wide channels narrower first (:mod:`quantize.rescaling`). ``base`` is
    the built-in recipe that a file started from.
    """

    name: str
    base: str
    weights: Weights
    activations: Weights
    activation_range: RangeMethod = "mse"
    activation_error: ActivationError = "tensor"
    weight_range: RangeMethod = "minmax"
    keep_float: tuple[str, ...] | None = None
    rescale_channels: bool = False

    def __post_init__(self) -> None:
        for field, allowed in _CHOICES.items():
            value = getattr(self, field)
            if value not in allowed:
                raise InputError(f"recipe {self.name}: {field} is {value!r}; valid: {', '.join(allowed)}")
        roles = [role.value for role in Role]
        for role in self._kept_roles:
            if role not in roles:
                valid = f"{', '.join(roles)}, or a tensor, such as 'head input'"
                raise InputError(f"recipe {self.name}: keep_float has {role!r}; valid: {valid}")
        if self.activations == "int8" and self.weights != "int8":
            raise InputError(f"recipe {self.name}: int8 activations need int8 weights, not {self.weights}")
        if self.weights == "float16" and self.activations != "float16":
            raise InputError(f"recipe {self.name}: float16 weights need float16 activations, not {self.activations}")
        if self.activation_error == "behind" and (self.activation_range, self.activations) != ("mse", "int8"):
            raise InputError(f"recipe {self.name}: activation_error behind is for int8 activations with range mse")
        if self.keep_float and self.activations != "int8":
            raise InputError(f"recipe {self.name}: keep_float is for int8 activations, not {self.activations}")
        if self.rescale_channels and self.activations != "int8":
            raise InputError(f"recipe {self.name}: rescale_channels is for int8 activations, not {self.activations}")

    @property
    def kept_tensors(self) -> tuple[str, ...]:
        """What ``keep_float`` names by layer and tensor; no role has a space."""
        given: tuple[object, ...] = self.keep_float or ()  # a TOML file can hold anything
        return tuple(name for name in given if isinstance(name, str) and " " in name)

    @property
    def _kept_roles(self) -> tuple[str, ...]:
        return tuple(name for name in self.keep_float or () if name not in self.kept_tensors)

    @property
    def calibrates(self) -> bool:
        """True when images must be shown to choose activation ranges."""
        return self.activations == "int8"

    @property
    def half(self) -> bool:
        """True when float operators may compute in float16, on a target that can."""
        return "float32" not in (self.weights, self.activations)

    @property
    def needs_float16(self) -> bool:
        """True when the recipe is only for targets that compute in float16: it does, or the one it is based on does."""
        base = RECIPES.get(self.base, self)
        return "float16" in (self.weights, self.activations, base.weights, base.activations)

    def settings(self) -> dict[str, Any]:
        """Every field, as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def resolved(self, scheme: Scheme) -> Recipe:
        """The recipe with a ``keep_float`` that says all: that of the target where it was None."""
        if self.keep_float is not None:
            return self
        roles = scheme.float_by_default if self.calibrates else ()
        return replace(self, keep_float=tuple(role.value for role in Role if role in roles))

    def scheme(self, scheme: Scheme) -> Scheme:
        """The target's scheme as this recipe uses it; InputError when it keeps float what the target cannot."""
        if self.activations != "int8":
            none: frozenset[Role] = frozenset()
            return replace(
                scheme, stored=none, convolutions=none, constant_bias="float" if self.weights != "int8" else "weight"
            )
        kept = frozenset(Role(role) for role in self.resolved(scheme)._kept_roles)
        if kept & scheme.required:
            names = ", ".join(sorted(role.value for role in kept & scheme.required))
            raise InputError(f"recipe {self.name}: keep_float has {names}, which this target needs as integers")
        return replace(scheme, stored=scheme.stored - kept, convolutions=scheme.convolutions - kept)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("int8", "int8", weights="int8", activations="int8", activation_error="behind", rescale_channels=True),
        Recipe("fp32", "fp32", weights="float32", activations="float32"),
        Recipe("fp16", "fp16", weights="float16", activations="float16"),
        Recipe("w8a16", "w8a16", weights="int8", activations="float16"),
    )
}
_FILE_KEYS = tuple(f.name for f in fields(Recipe) if f.name != "name")


def load_recipe(spec: str) -> Recipe:
    """A built-in recipe by name, or a file: a ``.toml`` or the ``manifest.json`` of a bundle, whose recipe is taken.

    In a ``.toml``, ``base`` names a built-in recipe, and other keys override its fields. Raises InputError for an
    unknown name, an unreadable file, an unknown key or value.
    """
    if spec in RECIPES:
        return RECIPES[spec]
    path = Path(spec)
    if path.suffix not in _READERS:
        valid = f"{', '.join(RECIPES)}, a .toml file, or the manifest.json of a bundle"
        raise InputError(f"unknown recipe {spec!r}; valid: {valid}")
    try:
        content = _READERS[path.suffix](path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from None
    return _from_settings(path, content) if path.suffix == ".toml" else _from_manifest(path, content)


_READERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}


def _from_manifest(path: Path, content: Any) -> Recipe:
    match content:
        case {"recipe": {"settings": {"name": str(name), **settings}}}:
            return replace(_from_settings(path, {str(key): value for key, value in settings.items()}), name=name)
    raise InputError(f"recipe {path}: it is no manifest of a bundle; valid: a .toml file or a manifest.json")


def _from_settings(path: Path, settings: dict[str, Any]) -> Recipe:
    for key in settings:
        if key not in _FILE_KEYS:
            raise InputError(f"recipe {path}: unknown key {key!r}; valid: {', '.join(_FILE_KEYS)}")
    base = settings.pop("base", "int8")
    if not isinstance(base, str) or base not in RECIPES:
        raise InputError(f"recipe {path}: base is {base!r}; valid: {', '.join(RECIPES)}")
    keep = settings.get("keep_float", [])
    if not isinstance(keep, list):
        raise InputError(f"recipe {path}: keep_float is {keep!r}; give a list of roles and tensors")
    if not isinstance(rescale := settings.get("rescale_channels", False), bool):
        raise InputError(f"recipe {path}: rescale_channels is {rescale!r}; valid: true, false")
    if "keep_float" in settings:
        settings["keep_float"] = tuple(keep)
    return replace(_without_unused(RECIPES[base], settings), name=path.stem, **settings)


def _without_unused(base: Recipe, settings: dict[str, Any]) -> Recipe:
    """``base`` less what it says about int8 activations and ``mse`` where ``settings`` use neither."""
    if settings.get("activations", base.activations) != "int8":
        base = replace(base, activation_error="tensor", rescale_channels=False)
    if settings.get("activation_range", base.activation_range) != "mse":
        base = replace(base, activation_error="tensor")
    return base
