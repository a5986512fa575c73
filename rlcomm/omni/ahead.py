"""Worker processes that do what is asked for next while the main process is busy with something else.

    expect(key, item) --> [worker: work(item)] --> take(key)

Processes, not threads: encoding a clip is much Python, which would take the interpreter from the thread that
feeds the GPU.
"""

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import torch

from rlcomm.utils.errors import UserError


class Ahead:
    """Does `work(item)` in worker processes before the result is asked for.

    The workers are forked when the first item is expected, as those of a DataLoader are: they see `work` and
    all that it holds as it was then, and must not touch the GPU. They end with this process, killed or not.

    Args:
        work: what is done with an item; item and result are pickled.
        workers: processes, at least 1.
        limit: at most so many items are begun and not yet taken (the rest waits), which bounds the memory.
    """

    def __init__(self, work: Callable[[Any], Any], workers: int, limit: int):
        self._work, self._workers, self._limit = work, workers, limit
        self._pool: ProcessPoolExecutor | None = None
        self._waiting: dict[Hashable, Any] = {}
        self._begun: dict[Hashable, Future[bytes]] = {}

    def expect(self, key: Hashable, item: Any) -> None:
        """Has `item` done, in the order of the calls; a key that is expected already stays as it is."""
        if key not in self._begun:
            self._waiting.setdefault(key, item)
        self._begin()

    def take(self, key: Hashable) -> Any | None:
        """The result of an expected item, waited for if need be; None where it has not been begun.

        Raises:
            UserError: a worker was killed. And whatever `work` raised, here and not before.
        """
        self._waiting.pop(key, None)
        future = self._begun.pop(key, None)
        if future is None:
            return None
        try:
            result = pickle.loads(future.result())
        except BrokenProcessPool as error:
            raise self._killed() from error
        self._begin()
        return result

    def close(self) -> None:
        """Ends the workers and forgets what is expected; expecting something starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        self._waiting.clear()
        self._begun.clear()

    def _begin(self) -> None:
        while self._waiting and len(self._begun) < self._limit:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self._workers, get_context("fork"), _start, (self._work, os.getpid())
                )
            key = next(iter(self._waiting))
            try:
                self._begun[key] = self._pool.submit(_do, self._waiting.pop(key))
            except BrokenProcessPool as error:
                raise self._killed() from error

    def _killed(self) -> UserError:
        return UserError(
            f"dataloader_num_workers is {self._workers}, and one of these workers was killed, most likely "
            "for want of memory; set fewer, or 0 to decode in the main process."
        )


_work: Callable[[Any], Any]  # of this worker


def _start(work: Callable[[Any], Any], parent: int) -> None:
    """What a worker does first."""
    global _work
    _work = work
    torch.set_num_threads(1)  # the workers are the parallelism; a forked thread pool would not answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then ends us
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """A main process that is killed cannot say goodbye: its workers would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


def _do(item: Any) -> bytes:
    # Bytes through a pipe, not tensors through shared memory: /dev/shm of a container is often 64 MB.
    return pickle.dumps(_work(item), pickle.HIGHEST_PROTOCOL)
