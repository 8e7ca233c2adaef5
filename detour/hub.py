"""Whether the Hugging Face hub answers: asked once, since its clients retry each file for 23 seconds before they say so."""

from __future__ import annotations

import logging
from functools import cache


def check_hub() -> None:
    """Returns if the hub answers, or if ``HF_HUB_OFFLINE=1`` keeps its clients to their cache.

    To be called before anything is read from the hub. The answer is kept for the life of the process.

    Raises:
        ConnectionError: It does not answer. What is in the cache is not used in its place, since it may be another revision.

    Cost: one request; without a network none, or up to ``HF_HUB_ETAG_TIMEOUT`` (10) seconds.
    """
    from huggingface_hub import constants  # takes a moment

    # the client's own handler would print each line a second time, and secrets in it
    logging.getLogger("huggingface_hub").handlers.clear()
    if not constants.HF_HUB_OFFLINE and (problem := _problem(constants.ENDPOINT, constants.HF_HUB_ETAG_TIMEOUT)):
        raise ConnectionError(
            f"{constants.ENDPOINT} cannot be reached ({problem}); name a local folder, or set HF_HUB_OFFLINE=1 to use what is "
            "in the hub's cache on this machine"
        )


@cache
def _problem(endpoint: str, seconds: float) -> str | None:
    from huggingface_hub.utils import get_session

    try:
        get_session().head(endpoint, timeout=seconds)  # any status is an answer
    except Exception as error:  # of requests or of httpx, by the version of the client
        return type(error).__name__
    return None
