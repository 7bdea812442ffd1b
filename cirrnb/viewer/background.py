"""Work that takes time, beside the widget: one thing at a time, with progress, and it can be called off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from cirrnb.data.errors import InputError, InputErrors
from cirrnb.explanation.score import Cancelled


class Task:
    """What a piece of work sees of the one who asked for it."""

    def __init__(self, progress: Callable[[float], None]):
        self._stop = threading.Event()
        self._progress = progress

    def cancelled(self) -> bool:
        return self._stop.is_set()

    def cancel(self) -> None:
        self._stop.set()

    def progress(self, done: int, total: int) -> None:
        """Tell how far it is; raises `Cancelled` where it was called off."""
        if self.cancelled():
            raise Cancelled("called off")
        self._progress(min(1.0, done / max(total, 1)))


class Worker:
    """Does one piece of work in a thread; asking for another calls the present one off.

    `done`, `failed` and `progress` are called from that thread, and only for the latest work.
    """

    def __init__(self, progress: Callable[[float | None], None], failed: Callable[[str], None]):
        self._progress, self._failed = progress, failed
        self._task: Task | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()

    @property
    def busy(self) -> bool:
        return self._task is not None

    def start(self, work: Callable[[Task], Any], done: Callable[[Any], None]) -> None:
        """Begin `work(task)`; its result goes to `done`."""
        with self._lock:
            self.cancel()
            before = self._thread
            task = Task(lambda share: self._report_progress(task, share))
            self._task = task
            self._thread = threading.Thread(target=self._run, args=(task, work, done, before), daemon=True)
            self._thread.start()
        self._progress(0.0)

    def cancel(self) -> None:
        """Call off what is under way; what it would have brought is dropped."""
        with self._lock:
            if self._task is not None:
                self._task.cancel()
                self._task = None
                self._progress(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Until nothing is under way; False where that took longer than `seconds`."""
        until = None if seconds is None else time.monotonic() + seconds
        while (thread := self._thread) is not None and thread.is_alive():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            thread.join(left)
        return not self.busy

    def _report_progress(self, task: Task, share: float) -> None:
        with self._lock:
            if self._task is task:
                self._progress(share)

    def _run(self, task: Task, work: Callable[[Task], Any], done: Callable[[Any], None], before: Any) -> None:
        if before is not None:
            before.join()  # two at a time would only slow each other down, and share one network
        result = None
        with Reported(lambda message: self._finish(task, lambda: self._failed(message))):
            try:
                result = work(task)
            except Cancelled:
                task.cancel()
        self._finish(task, lambda: done(result))  # nothing after a failure, which finished it

    def _finish(self, task: Task, last: Callable[[], None]) -> None:
        with self._lock:
            if self._task is not task:
                return  # called off, or something else was asked for meanwhile
            self._task = None
            self._progress(None)
            if not task.cancelled():
                last()  # which may ask for more


class Reported:
    """A block whose errors are reported in plain words.

    Errors of files, memory and numbers end there. A defect of the program is reported and also raised, so that its
    traceback reaches the log.
    """

    EXPECTED = (InputError, InputErrors, OSError, MemoryError, ArithmeticError, RuntimeError, ValueError)
    """RuntimeError is what torch raises, also where memory runs out."""

    def __init__(self, report: Callable[[str], None]):
        self._report = report

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self._report(in_plain_words(error))
        return isinstance(error, self.EXPECTED)


def in_plain_words(error: Exception) -> str:
    """What went wrong for somebody who does not read tracebacks."""
    if isinstance(error, InputError | InputErrors):
        return str(error)
    if isinstance(error, OSError):
        return f"A file could not be read or written ({error.strerror or type(error).__name__}). Open the case again."
    if isinstance(error, MemoryError):
        return "The memory did not suffice. Close other programs, or choose Grad-CAM, which needs less."
    return f"Something went wrong in the program ({type(error).__name__}: {error}). Please report it."
