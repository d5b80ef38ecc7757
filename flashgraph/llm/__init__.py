"""Models: the protocol, the backends, and the limits on their use.

A backend and its library are imported at first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flashgraph.llm.limits import Limits, adaptive, fixed, steered
from flashgraph.llm.protocol import Load, Message, Model, Quota, Reply, TokenLogprob, ToolCall, Usage

if TYPE_CHECKING:
    from flashgraph.llm.engine import EngineModel
    from flashgraph.llm.ensemble import Ensemble
    from flashgraph.llm.function import FunctionModel
    from flashgraph.llm.http import HttpModel
    from flashgraph.llm.lite import LiteLLMModel
    from flashgraph.llm.local import LocalModel
    from flashgraph.llm.responses import ResponseCache
    from flashgraph.llm.scripted import RecordedCall, ScriptedModel
    from flashgraph.llm.vllm import VllmModel

BACKENDS = {
    "EngineModel": "engine",
    "Ensemble": "ensemble",
    "FunctionModel": "function",
    "HttpModel": "http",
    "LiteLLMModel": "lite",
    "LocalModel": "local",
    "RecordedCall": "scripted",
    "ResponseCache": "responses",
    "ScriptedModel": "scripted",
    "VllmModel": "vllm",
}
"""The module of each backend."""


def __getattr__(name: str) -> Any:
    if name not in BACKENDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return getattr(import_module(f"{__name__}.{BACKENDS[name]}"), name)


__all__ = [
    "EngineModel",
    "Ensemble",
    "FunctionModel",
    "HttpModel",
    "Limits",
    "LiteLLMModel",
    "Load",
    "LocalModel",
    "Message",
    "Model",
    "Quota",
    "RecordedCall",
    "Reply",
    "ResponseCache",
    "ScriptedModel",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "VllmModel",
    "adaptive",
    "fixed",
    "steered",
]
