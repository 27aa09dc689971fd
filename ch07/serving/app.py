"""The web application: the chat page, and OpenAI's interface to one model.

GET  /                     the page
GET  /chat/about           what the page needs to know about the model
POST /chat/prompt          the prompt of a conversation as it is really sent
GET  /v1/models            the one model
POST /v1/chat/completions  an answer to a conversation
POST /v1/completions       a text, continued as it is
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ch07.models.saved_run import TrainedModel
from ch07.pages.one_file import one_file_page
from ch07.serving.api_errors import ApiError, error_body, error_response, server_busy
from ch07.serving.engine_thread import AnswerEnd, EngineThread, Ticket
from ch07.serving.openai_api import AnswerForm, model_object, server_sent_event
from ch07.serving.prompts import (
    Prompt,
    chat_prompt,
    completion_prompt,
    describe_prompt,
    takes_system,
)
from ch07.serving.request_fields import Limits, parse_chat, parse_completion, parse_json
from ch07.serving.security import AccessRules, Guard

SENDING_SECONDS = 30.0  # beyond an answer's own time, for a client that reads slowly
T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """A model, its engine, and what is promised to those who ask."""

    run: TrainedModel
    engine: EngineThread
    time_limit: float  # seconds that an answer may take, waiting included
    suggestions: Sequence[dict[str, str]] = ()  # questions to begin with, with any input
    started: int = field(default_factory=lambda: int(time.time()))

    @property
    def model_id(self) -> str:
        """What the model is called here: its folder's name, without the path."""
        return Path(self.run.name).resolve().name or self.run.name


def make_app(service: Service, rules: AccessRules) -> ASGIApp:
    """The application for one model, behind its checks."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.engine.start()
        yield
        await service.engine.stop()

    answers = Endpoints(service)
    routes = [
        Route("/", answers.page),
        Route("/chat/about", answers.about),
        Route("/chat/prompt", answers.prompt, methods=["POST"]),
        Route("/v1/models", answers.models),
        Route("/v1/models/{name:path}", answers.model),
        Route("/v1/chat/completions", answers.chat_completions, methods=["POST"]),
        Route("/v1/completions", answers.completions, methods=["POST"]),
    ]
    handlers: Any = {ApiError: _api_error, HTTPException: _http_error, Exception: _bug}
    return Guard(Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers), rules)


class Endpoints:
    """What is answered at each address."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._page = one_file_page("chat", connect="'self'")

    async def page(self, request: Request) -> Response:
        """The chat page."""
        return HTMLResponse(self._page)

    async def about(self, request: Request) -> Response:
        """What the page needs to know."""
        return JSONResponse(describe_service(self._service))

    async def prompt(self, request: Request) -> Response:
        """The prompt of a conversation as it is really sent."""
        _, prompt = await self._read_chat(request)
        return JSONResponse(describe_prompt(self._service.run, prompt))

    async def models(self, request: Request) -> Response:
        """The list of the one model."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """The one model, by its name."""
        if request.path_params["name"] != self._service.model_id:
            raise ApiError("there is no such model here", status=404, code="model_not_found")
        return JSONResponse(self._model())

    async def chat_completions(self, request: Request) -> ASGIApp:
        """An answer to the last message of a conversation."""
        limits, prompt = await self._read_chat(request)
        return await _answer(self._service, prompt, limits, is_chat=True, receive=request.receive)

    async def completions(self, request: Request) -> ASGIApp:
        """A text, continued as it is."""
        service = self._service
        asked = parse_completion(parse_json(await request.body()), service.model_id)
        prompt = await asyncio.to_thread(completion_prompt, service.run, asked)
        return await _answer(service, prompt, asked.limits, is_chat=False, receive=request.receive)

    async def _read_chat(self, request: Request) -> tuple[Limits, Prompt]:
        asked = parse_chat(parse_json(await request.body()), self._service.model_id)
        # Tokenizing a long text takes a moment, in which others must not wait.
        return asked.limits, await asyncio.to_thread(chat_prompt, self._service.run, asked)

    def _model(self) -> dict[str, Any]:
        return model_object(self._service.model_id, self._service.started)


def describe_service(service: Service) -> dict[str, Any]:
    """What the page needs to know."""
    run = service.run
    return {
        "model": service.model_id,
        "remembers": run.conversations is not None,
        "takes_system": takes_system(run),
        "context_length": run.model.config.context_length,
        "time_limit": service.time_limit,
        "suggestions": list(service.suggestions),
    }


# --- answers ------------------------------------------------------------------------------------
async def _answer(
    service: Service, prompt: Prompt, limits: Limits, *, is_chat: bool, receive: Receive
) -> ASGIApp:
    """The response with an answer, whole or as a stream; ApiError if there is none."""
    form = AnswerForm(
        service.model_id,
        is_chat,
        len(prompt.token_ids),
        include_usage=limits.include_usage,
        n_forgotten=prompt.n_forgotten,
    )
    ticket = service.engine.submit(prompt.token_ids, limits)
    timer = asyncio.get_running_loop().call_later(service.time_limit, ticket.cancel, "time")
    try:
        if limits.stream:
            first = await _unless_gone(ticket, receive, _next(ticket))
            return AnswerStream(ticket, form, first, timer, service.time_limit + SENDING_SECONDS)
        text, end = await _unless_gone(ticket, receive, _whole(ticket))
    except BaseException:
        timer.cancel()
        raise
    timer.cancel()
    return JSONResponse(form.whole(text, end))


async def _next(ticket: Ticket) -> str | AnswerEnd:
    """The next text, or the end; ApiError if the answer failed, or never had its turn."""
    event = await ticket.next()
    if isinstance(event, ApiError):
        raise event
    if isinstance(event, AnswerEnd) and not event.has_begun:
        if event.reason == "time":
            raise server_busy("there was no turn within the time limit: ask again later", "busy")
        if event.reason == "shutdown":
            raise server_busy("the server is stopping", "shutting_down")
    return event


async def _whole(ticket: Ticket) -> tuple[str, AnswerEnd]:
    text = ""
    while isinstance(event := await _next(ticket), str):
        text += event
    return text, event


async def _unless_gone(ticket: Ticket, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; if the client goes away before, its answer ends, too."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_until_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError("the client has gone", status=499)
        return working.result()
    finally:
        leaving.cancel()
        if not working.done() or working.cancelled():
            working.cancel()
            ticket.cancel("disconnected")


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class AnswerStream:
    """The response that sends an answer while it is written.

    Its status is sent with the first text, so that a failure before that has a status of its own.
    """

    def __init__(
        self,
        ticket: Ticket,
        form: AnswerForm,
        first: str | AnswerEnd,
        timer: asyncio.TimerHandle,
        seconds: float,
    ) -> None:
        self._ticket = ticket
        self._form = form
        self._first = first
        self._timer = timer
        self._seconds = seconds  # after which a client that reads too slowly is left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, unless the client goes away or reads too slowly."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_wait_until_gone(receive))
        try:
            await asyncio.wait(
                {sending, leaving}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            leaving.cancel()
            self._timer.cancel()
            self._ticket.cancel("disconnected")  # has no effect on an answer that has ended

    async def _send(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def send_event(value: Any) -> None:
            event = server_sent_event(value)
            await send({"type": "http.response.body", "body": event, "more_body": True})

        async for part in self._parts():
            await send_event(part)
        await send_event("[DONE]")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _parts(self) -> AsyncIterator[dict[str, Any]]:
        first_part = self._form.first_part()
        if first_part is not None:
            yield first_part
        event = self._first
        while isinstance(event, str):
            yield self._form.text_part(event)
            try:
                event = await _next(self._ticket)
            except ApiError as error:  # the status is sent already, so the error is an event
                yield error_body(error)
                return
        for part in self._form.last_parts(event):
            yield part


# --- errors -------------------------------------------------------------------------------------
async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: an address that doesn't exist, or a method that it doesn't have."""
    assert isinstance(error, HTTPException)
    messages = {404: "there is nothing at this address", 405: "this address has another method"}
    message = messages.get(error.status_code, error.detail)
    return error_response(ApiError(message, status=error.status_code, headers=error.headers))


async def _bug(request: Request, error: Exception) -> Response:
    """Anything else is a bug of ours; its traceback goes to the terminal, and not to the client."""
    return error_response(ApiError("the server failed at this", status=500, code="server_failed"))
