"""Work that is dropped when its time is over."""

import time


def require_time_left(deadline: float) -> None:
    """Raise where a deadline, ``time.monotonic``, is over.

    Raises:
        TimeoutError: it is.
    """
    if time.monotonic() > deadline:
        raise TimeoutError
