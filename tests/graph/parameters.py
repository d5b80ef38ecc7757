"""Parameter classes for tests, made from defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["params_like"]


def params_like(defaults: Mapping[str, Any]) -> type:
    """Return a class with a parameter of each name; each has the type of its default, and None has any type."""
    kinds = {name: Any if value is None else type(value) for name, value in defaults.items()}
    fields = {name: attrs.field(default=value, type=kinds[name]) for name, value in defaults.items()}
    return attrs.make_class("Params", fields, frozen=True)
