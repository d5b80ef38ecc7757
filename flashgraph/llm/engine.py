"""A vLLM engine inside this process, without a server and HTTP; it needs vLLM itself and asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs

from flashgraph.errors import ContextTooLong, DataError, ModelUnavailable, RequestFailed, TimedOut
from flashgraph.llm.limits import Limits
from flashgraph.llm.protocol import Load, Message, Reply, Usage
from flashgraph.llm.retry import Retry
from flashgraph.llm.sharing import Shared

__all__ = ["EngineModel"]

SAMPLING = frozenset(
    {
        "frequency_penalty", "ignore_eos", "logit_bias", "max_tokens", "min_p", "min_tokens", "presence_penalty",
        "repetition_penalty", "seed", "stop", "temperature", "top_k", "top_p",
    }
)  # fmt: skip
"""Parameters that have the same name and meaning in the engine as in a request."""

MOST = 256
"""The default maximum of requests in flight, and of sequences that the engine runs concurrently."""

NOTHING = Load(0, 0)


def _vllm() -> Any:
    """Return the library.  Raises `DataError` if it is not installed."""
    try:
        import vllm
    except ImportError as error:
        raise DataError(
            f"vllm-engine: models need vLLM ({error}); run: pip install 'flashgraph[vllm]' (or use vllm:URL#MODEL)"
        ) from None
    return vllm


def _refusals() -> tuple[type[Exception], ...]:
    """Return the exceptions with which the library refuses a request.

    Its own are not `ValueError` in newer versions.  A list in place of a mapping causes an `AttributeError`.
    """
    python = (AttributeError, OverflowError, TypeError, ValueError)
    try:
        from vllm.exceptions import VLLMClientError
    except ImportError:
        return python
    return (*python, VLLMClientError)


class _Gauge:
    """The engine's load, which the engine reports with each step."""

    def __init__(self) -> None:
        self.last = NOTHING

    def logger(self, config: Any, index: int = 0) -> Any:
        """Return the logger that the engine wants for each of its ranks, an instance of its base class."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        gauge = self

        class Logger(StatLoggerBase):  # type: ignore[misc]  # the library has no types here
            def __init__(self) -> None:
                pass

            def record(self, scheduler_stats: Any = None, *rest: Any, **more: Any) -> None:
                if scheduler_stats is not None:
                    gauge.last = Load(
                        int(scheduler_stats.num_running_reqs),
                        int(scheduler_stats.num_waiting_reqs),
                        float(scheduler_stats.kv_cache_usage),
                    )

            def log_engine_initialized(self) -> None:
                pass

        return Logger()


@attrs.define(eq=False)
class EngineModel:
    """The weights ``weights`` (a name of the Hugging Face hub, or a folder) in an engine of this process.

    ``engine`` contains arguments for vLLM's ``AsyncEngineArgs``.  With a fixed ``limit`` the engine runs that many
    requests concurrently.  With moving ``limits`` the engine uses its default, and the limits find it.  Priorities of
    requests reach the engine, so that it too serves first what the run waits for.  A reply may use all of the context
    that its prompt leaves, unless the request says otherwise.  ``chat_template`` is a Jinja file for weights without
    one.
    """

    weights: str
    limit: int = attrs.field(default=MOST, kw_only=True, validator=attrs.validators.ge(1))
    limits: Limits | None = attrs.field(default=None, kw_only=True)
    timeout: float = attrs.field(default=600.0, kw_only=True, validator=attrs.validators.gt(0))
    params: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    engine: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    chat_template: str | None = attrs.field(default=None, kw_only=True)
    retry: Retry = attrs.field(factory=Retry, kw_only=True)
    prioritises: bool = attrs.field(default=True, init=False)
    _loaded: Shared[tuple[Any, Any]] = attrs.field(factory=Shared, init=False, repr=False)
    """The engine and its tokenizer."""
    _gauge: _Gauge = attrs.field(factory=_Gauge, init=False, repr=False)
    _asked: int = attrs.field(default=0, init=False, repr=False)
    _out: int = attrs.field(default=0, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.limits is not None:
            self.limit = self.limits.most

    @property
    def name(self) -> str:
        return f"vllm-engine:{self.weights}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Load the weights and hold the engine, which works in a process of its own.

        Raises `DataError` if vLLM is not installed, if the weights have no chat template, or for arguments that the
        engine does not know.  Raises it too on event loops other than asyncio's.  Raises `ModelUnavailable` if the
        engine does not start.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise DataError(f"{self.name} works on asyncio only; run on asyncio, or use vllm:URL#MODEL") from None
        _vllm()
        async with self._loaded.hold(self._serving):
            yield

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[tuple[Any, Any]]:
        self._gauge = _Gauge()
        engine = await anyio.to_thread.run_sync(self._start)
        try:
            found = engine.get_tokenizer()
            tokenizer = await found if inspect.isawaitable(found) else found
            if self.chat_template is None and not getattr(tokenizer, "chat_template", None):
                raise DataError(
                    f"{self.name}: the weights come without a chat template; name a Jinja file: "
                    f"vllm-engine:{self.weights}?chat_template=FILE"
                )
            yield engine, tokenizer
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(engine.shutdown)

    def _start(self) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        side_by_side = {"max_num_seqs": self.limit} if self.limits is None else {}
        given = {"scheduling_policy": "priority", **side_by_side, **self.engine}
        try:
            arguments = AsyncEngineArgs(model=self.weights, **given)
        except TypeError as error:
            raise DataError(f"{self.name}: {error}; expected arguments of vLLM's AsyncEngineArgs") from None
        try:
            # As an API server, so that vLLM chooses the defaults of its own server for this device.
            return AsyncLLM.from_engine_args(
                arguments, usage_context=UsageContext.OPENAI_API_SERVER, stat_loggers=[self._gauge.logger]
            )
        # Damaged weights, a full device or a failed child process may raise anything, and the run cannot begin.
        except Exception as error:
            raise ModelUnavailable(f"{self.name}: the engine did not start: {error}") from error

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``; see `flashgraph.llm.protocol.Model.complete`."""
        if self._loaded.value is None:
            raise RuntimeError(f"{self.name} is not open: use `async with model.open():` around its calls")
        asked = {**self.params, **params}
        priority = int(asked.pop("priority", 0))
        prompt = self._prompt(messages, asked.pop("chat_template_kwargs", {}))
        sampling = self._sampling(asked, len(prompt))
        if not self._out:
            self._gauge.last = NOTHING  # the last report is of requests that have ended since
        self._out += 1
        try:
            return await self._answer(prompt, sampling, priority)
        finally:
            self._out -= 1

    @property
    def _engine(self) -> Any:
        return None if self._loaded.value is None else self._loaded.value[0]

    @property
    def _tokenizer(self) -> Any:
        return None if self._loaded.value is None else self._loaded.value[1]

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return 0: the engine is free."""
        return 0.0

    async def load(self) -> Load:
        """Return the load that the engine reported with its last step; 0 for an idle engine."""
        return self._gauge.last if self._out else NOTHING

    def _prompt(self, messages: Sequence[Message], options: Mapping[str, Any]) -> list[int]:
        template = None if self.chat_template is None else Path(self.chat_template).read_text()
        try:
            text = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=template,
                add_generation_prompt=True,
                tokenize=False,
                **options,
            )
        # A template is code and may raise anything, for example for roles that it does not know.
        except Exception as error:
            raise RequestFailed(f"{self.name}: the chat template refuses these messages: {error}") from error
        # The template's output has the special tokens already.
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _sampling(self, asked: dict[str, Any], prompt: int) -> Any:
        import msgspec
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        longest = int(self._engine.model_config.max_model_len)
        if prompt >= longest:
            raise ContextTooLong(f"{self.name}: the prompt has {prompt} tokens, the model's context is {longest}")
        if "max_completion_tokens" in asked:
            asked["max_tokens"] = asked.pop("max_completion_tokens")
        unknown = sorted(set(asked) - SAMPLING)
        if unknown:
            raise DataError(f"{self.name}: found parameter {unknown[0]!r}, expected {', '.join(sorted(SAMPLING))}")
        try:
            asked["max_tokens"] = min(int(asked.get("max_tokens") or longest), longest - prompt)
            # Parsed as the server parses a request: in JSON the tokens of `logit_bias` are text.
            sampling = SamplingParams.from_optional(**asked, output_kind=RequestOutputKind.FINAL_ONLY)
            # The engine's process decodes this message.  One of a wrong type, such as seed="x", would end its reader,
            # and no request would ever be answered again.
            msgspec.msgpack.decode(msgspec.msgpack.encode(sampling), type=SamplingParams)
        except _refusals() as error:
            raise RequestFailed(f"{self.name} rejects the request: {error}") from None
        return sampling

    async def _answer(self, prompt: list[int], sampling: Any, priority: int) -> Reply:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._asked += 1
        made = self._engine.generate(
            {"prompt_token_ids": prompt}, sampling, f"flashgraph-{id(self)}-{self._asked}", priority=priority
        )
        try:
            with anyio.fail_after(self.timeout):
                output = await _last(made)
        except TimeoutError:
            late = TimedOut(f"{self.name}: no answer within {self.timeout:g} s; raise it with `?timeout=SECONDS`")
            raise self.retry.passing(late, cut_off=True) from None
        except EngineDeadError as error:
            raise ModelUnavailable(f"{self.name}: the engine has died; its log says why. Then run again") from error
        except EngineGenerateError as error:
            failed = RequestFailed(f"{self.name}: the engine failed: {error.__cause__ or error}")
            raise self.retry.passing(failed, cut_off=True) from error
        except _refusals() as error:
            raise RequestFailed(f"{self.name} rejects the request: {error}") from error
        if output is None or not output.outputs:
            raise self.retry.passing(RequestFailed(f"{self.name}: the engine gave no answer"), cut_off=True)
        one = output.outputs[0]
        usage = Usage(len(output.prompt_token_ids or prompt), len(one.token_ids))
        return Reply(one.text, usage, 0.0, one.finish_reason or "stop", self.weights)


async def _last(outputs: AsyncIterable[Any]) -> Any:
    """Return the last of ``outputs``; None if there are none.

    When it is cancelled, the engine aborts the request with an await of its own.  A cancelled anyio scope would cancel
    that await too, and the request would continue in the engine.  So a task outside every scope is cancelled, once.
    """

    async def drain() -> Any:
        last = None
        async for output in outputs:
            last = output
        return last

    task = asyncio.create_task(drain())
    try:
        await asyncio.wait({task})
    finally:
        if not task.done():
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task})
    return task.result()
