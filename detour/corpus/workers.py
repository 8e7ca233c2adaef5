"""Worker processes: the same functions over the same parts, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from detour.errors import DataError

Task = Callable[..., None]


class Workers:
    """Runs tasks whose results are files. Use as a context manager.

    Args:
        processes: 1 runs the tasks here, one after another.
    """

    def __init__(self, processes: int) -> None:
        self._pool = None
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(os.getpid(),))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, task: Task, arguments: Iterable[tuple[Any, ...]], on_done: Callable[[], None]) -> None:
        """Runs ``task(*arguments)`` for each of the arguments, in any order; the first error ends all.

        Raises:
            DataError: As the task, or a process was killed.
        """
        if self._pool is None:
            for these in arguments:
                task(*these)
                on_done()
            return
        futures = [self._pool.submit(task, *these) for these in arguments]
        try:
            for future in as_completed(futures):
                future.result()
                on_done()
        except BrokenProcessPool:
            raise DataError(
                "a worker process was killed, most often for want of memory; run again with fewer processes "
                "to go on from the parts that are finished"
            ) from None
        finally:
            for future in futures:
                future.cancel()


def _begin(parent: int) -> None:
    os.environ["RAYON_NUM_THREADS"] = "1"  # the tokenizer's own threads; processes are what is counted here
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def leave_with_the_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=leave_with_the_parent, daemon=True).start()
