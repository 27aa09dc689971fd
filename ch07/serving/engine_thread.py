"""One thread that computes, many clients that wait: the batch on one side, asyncio on the other.

The one idea: the batch belongs to its thread alone. What the event loop wants (begin an answer, end
one) is put into a queue as a function, and done between two steps. What the batch writes comes back
as events, once per step. A client that reads slowly makes nobody wait: its text is kept, and can't
be more than one answer.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import tiktoken

from ch07.generation.continuous_batching import BatchRow, ContinuousBatch
from ch07.generation.stop_strings import StopFilter
from ch07.generation.text_stream import TextStream
from ch07.serving.api_errors import ApiError, server_busy
from ch07.serving.request_fields import Limits
from ch07.utils.errors import UserError


@dataclass(frozen=True)
class AnswerEnd:
    """Why an answer ended, and how many tokens it has.

    The reason is "end", "length" or "context", as in a `Continuation`, "stop" for a stop string, or
    what `Ticket.cancel` was given: "time", "shutdown" or "disconnected".
    """

    reason: str
    n_tokens: int
    has_begun: bool  # whether its prompt was read, at least in part


Event = str | AnswerEnd | ApiError


@dataclass(eq=False)
class Ticket:
    """An answer that was ordered: its events come in order, the end or an error last."""

    prompt: Sequence[int]
    limits: Limits
    cancel: Callable[[str], None] = lambda reason: None
    cancelled: str = ""  # why it was cancelled; known to the batch's thread alone
    row: BatchRow | None = None
    _events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    async def next(self) -> Event:
        """The text that was written since the last call, together, or how the answer ended."""
        event = await self._events.get()
        while isinstance(event, str) and not self._events.empty():
            following = self._events.get_nowait()
            if not isinstance(following, str):
                self.put_back(following)
                break
            event += following
        return event

    def put(self, event: Event) -> None:
        """Add an event; called in the event loop's thread."""
        self._events.put_nowait(event)

    def put_back(self, event: Event) -> None:
        """Return the last event, after which none comes."""
        self._events.put_nowait(event)


class EngineThread:
    """Answers prompts in a thread of its own; `submit` and `Ticket.next` are for the event loop.

    At most `max_waiting` answers wait while `batch.max_rows` are being written.
    """

    def __init__(
        self,
        batch: ContinuousBatch,
        tokenizer: tiktoken.Encoding,
        *,
        max_waiting: int,
        report: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.max_open = batch.max_rows + max_waiting
        self._batch = batch
        self._tokenizer = tokenizer
        self._report = report
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False
        self._open: set[Ticket] = set()  # known to the event loop's thread alone
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Known to the batch's thread alone.
        self._tickets: dict[BatchRow, Ticket] = {}
        self._events: list[tuple[Ticket, Event]] = []
        self._filters: dict[BatchRow, tuple[TextStream, StopFilter]] = {}
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    # --- for the event loop -----------------------------------------------------------------------
    def start(self) -> None:
        """Begin; to be called in the event loop that will wait for answers."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, prompt: Sequence[int], limits: Limits) -> Ticket:
        """Order an answer; ApiError 503 if too many wait already, or if the server is stopping."""
        if self._is_closing:
            raise server_busy("the server is stopping", "shutting_down")
        if len(self._open) >= self.max_open:
            raise server_busy(
                f"{len(self._open)} answers are being written or wait already: ask again later",
                "queue_full",
            )
        ticket = Ticket(prompt, limits)
        ticket.cancel = lambda reason: self._commands.put(lambda: self._cancel(ticket, reason))
        self._open.add(ticket)
        self._commands.put(lambda: self._begin(ticket))
        return ticket

    def end_answers(self, reason: str) -> None:
        """End all answers where they are, and take no new ones."""
        self._is_closing = True
        for ticket in list(self._open):
            ticket.cancel(reason)

    async def stop(self) -> None:
        """End all answers, and the thread."""
        self.end_answers("shutdown")
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)

    @property
    def n_open(self) -> int:
        """Answers that are being written or wait."""
        return len(self._open)

    def _hand_out(self, events: Sequence[tuple[Ticket, Event]]) -> None:
        for ticket, event in events:
            if not isinstance(event, str):
                self._open.discard(ticket)
            ticket.put(event)

    # --- in the batch's thread --------------------------------------------------------------------
    def _run(self) -> None:
        while self._obey_commands():
            try:
                for row in self._batch.step():
                    self._end(row)
            except Exception as error:  # a lack of memory, or a bug: the next prompt may succeed
                self._report(error)
                for row in [*self._batch.clear(), *self._tickets]:
                    self._fail(row)
            self._deliver()
        self._deliver()

    def _obey_commands(self) -> bool:
        """Do what was asked since the last step, or wait if there is nothing else; False: end."""
        while True:
            must_wait = self._batch.is_idle and not self._events
            try:
                command = self._commands.get(block=must_wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()

    def _begin(self, ticket: Ticket) -> None:
        limits = ticket.limits
        stop_filter = StopFilter(limits.stop, lambda text: self._events.append((ticket, text)))
        stream = TextStream(self._tokenizer, stop_filter.add)

        def on_token(token_id: int) -> bool:
            stream.add(token_id)
            return stop_filter.found is not None

        try:
            row = self._batch.submit(
                ticket.prompt,
                limits.max_new_tokens,
                sampling=limits.sampling,
                seed=limits.seed,
                on_token=on_token,
            )
        except UserError as error:
            self._events.append((ticket, ApiError(str(error))))
            return
        except Exception as error:
            self._report(error)
            self._events.append((ticket, _model_failed()))
            return
        ticket.row = row
        self._tickets[row] = ticket
        self._filters[row] = (stream, stop_filter)
        if row.stopped:  # there is no space for a token
            self._end(row)

    def _cancel(self, ticket: Ticket, reason: str) -> None:
        if ticket.row in self._tickets:
            ticket.cancelled = reason
            self._batch.cancel(ticket.row)

    def _end(self, row: BatchRow) -> None:
        """The last text of a row, and why it ended."""
        ticket = self._tickets.pop(row)
        stream, stop_filter = self._filters.pop(row)
        stream.end()
        stop_filter.end()
        reason = row.stopped
        if stop_filter.found is not None:
            reason = "stop"
        elif reason == "caller":
            reason = ticket.cancelled
        n_tokens = len(row.continuation.token_ids)
        self._events.append((ticket, AnswerEnd(reason, n_tokens, has_begun=row.n_read > 0)))

    def _fail(self, row: BatchRow) -> None:
        ticket = self._tickets.pop(row, None)
        self._filters.pop(row, None)
        if ticket is not None:
            self._events.append((ticket, _model_failed()))

    def _deliver(self) -> None:
        """Pass the events of a step to the event loop, which wakes up once for all of them."""
        if not self._events:
            return
        events = self._events
        self._events = []
        assert self._loop is not None
        with suppress(RuntimeError):  # if the loop is closed, nobody waits any more
            self._loop.call_soon_threadsafe(self._hand_out, events)


def _model_failed() -> ApiError:
    message = "the model failed at this; the server's terminal says why"
    return ApiError(message, status=500, code="model_failed")
