"""The optional libraries, and what installs each: a plain ``pip install flashgraph`` has none of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from flashgraph.errors import DataError

__all__ = ["EXTRAS", "missing", "require"]

EXTRAS: Mapping[str, str] = {
    "alembic": "mlflow",
    "datasets": "data",
    "hypothesis": "testing",
    "if_verifiable": "ifbench",
    "litellm": "litellm",
    "matplotlib": "draw",
    "mlflow": "mlflow",
    "model2vec": "embedding",
    "pyarrow": "data",
    "sqlalchemy": "mlflow",
    "trio": "trio",
    "xllamacpp": "local",
}
"""By module that is imported: the extra of flashgraph that has it."""


def require(module: str, what: str) -> None:
    """Raise `DataError`, naming the extra, where ``what`` needs a module that is not installed."""
    if find_spec(module) is None:
        raise DataError(f"{what}: {_said(module)}")


def missing(error: BaseException) -> str | None:
    """Return what to install where an import has failed for want of an extra; None for any other error."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return _said(module) if module in EXTRAS else None


def _said(module: str) -> str:
    return f"{module} is not installed.\nFix: pip install 'flashgraph[{EXTRAS[module]}]'"
