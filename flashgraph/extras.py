"""The optional libraries and the extra that installs each; a plain ``pip install flashgraph`` has none of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from flashgraph.errors import DataError

__all__ = ["EXTRAS", "missing", "require"]

EXTRAS: Mapping[str, str] = {
    "alembic": "mlflow",
    "datasets": "data",
    "dspy": "dspy",
    "gepa": "gepa",
    "hypothesis": "testing",
    "if_verifiable": "ifbench",
    "litellm": "litellm",
    "matplotlib": "draw",
    "mlflow": "mlflow",
    "model2vec": "embedding",
    "pyarrow": "data",
    "sqlalchemy": "mlflow",
    "trio": "trio",
    "vllm": "vllm",
    "xllamacpp": "local",
}
"""For each importable module, the extra of flashgraph that installs it."""


def require(module: str, what: str) -> None:
    """Raise `DataError`, naming the extra, if ``what`` needs a module that is not installed."""
    if find_spec(module) is None:
        raise DataError(f"{what}: {_hint(module)}")


def missing(error: BaseException) -> str | None:
    """Return a message that names the extra to install, if ``error`` is an import that lacks one; otherwise None."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return _hint(module) if module in EXTRAS else None


def _hint(module: str) -> str:
    return f"{module} is not installed.\nFix: pip install 'flashgraph[{EXTRAS[module]}]'"
