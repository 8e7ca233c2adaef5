"""Worker processes: runs tasks in this process or in several, with the same results."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from detour.errors import DataError

Task = Callable[..., None]


class Workers:
    """Runs tasks that write their results to files. Use as a context manager.

    Args:
        processes: With 1, tasks run sequentially in this process.
        shared: The first argument of every task. Sent to each process once, not with every task: a preparation of
            thousands of files lists them all.
    """

    def __init__(self, processes: int, shared: Any) -> None:
        self._pool, self._shared = None, shared
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_initialize, initargs=(shared,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, task: Task, arguments: Iterable[tuple[Any, ...]], on_done: Callable[[], None]) -> None:
        """Calls ``task(shared, *arguments)`` for each tuple of arguments, in any order. The first error cancels the rest.

        Args:
            task: A function that can be pickled.
            arguments: Its further arguments, one tuple per call.
            on_done: Called after each call has finished.

        Raises:
            DataError: Raised by the task, or a worker process was killed.
        """
        if self._pool is None:
            for each in arguments:
                task(self._shared, *each)
                on_done()
            return
        futures = [self._pool.submit(_call, task, each) for each in arguments]
        try:
            for future in as_completed(futures):
                future.result()
                on_done()
        except BrokenProcessPool:
            raise DataError(
                "a worker process was killed, most often because memory ran out; run again with fewer processes, "
                "which resumes from the finished files"
            ) from None
        finally:
            for future in futures:
                future.cancel()


_shared: Any = None  # in a worker process, the first argument of its tasks


def _call(task: Task, arguments: tuple[Any, ...]) -> None:
    task(_shared, *arguments)


def _initialize(shared: Any) -> None:
    global _shared
    _shared = shared
    os.environ["RAYON_NUM_THREADS"] = "1"  # no threads inside the tokenizer: parallelism is across processes
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
