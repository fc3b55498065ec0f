"""Work done ahead in threads, handed out in order.

Threads and not processes, because decoding, resizing and array arithmetic release the interpreter lock, and
because threads start at once, share the pixels, and die with the process that a user kills.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def in_order(
    function: Callable[[In], Out], items: Iterable[In], workers: int, ahead: int = 2
) -> Iterator[Out]:
    """Yield `function(item)` for each item, in the order of the items.

    Args:
        function: what to do.
        items: what to do it with.
        workers: threads; 0 does the work when it is asked for.
        ahead: finished or running items that may wait for each worker.
    """
    if not workers:
        yield from map(function, items)
        return
    rest = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgeproof-data")
    waiting: deque[Future[Out]] = deque()
    try:
        waiting.extend(pool.submit(function, item) for item in islice(rest, workers * ahead))
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)
