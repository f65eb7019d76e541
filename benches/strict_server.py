#!/usr/bin/env python3
"""An independent strict server for the pacing benchmark: benches/strict_server.py [JITTER_MS [faults]]

The moving window of the PyPI package `limits` (20 in any second; refused requests don't count) behind aiohttp, on a free port
of 127.0.0.1. It answers after 30 ms like ZIM, but looks at no parameter. With JITTER_MS a request is first on its way for up to
that long. The first line printed is the port; after SIGTERM comes what was seen, as JSON.

With `faults`, some conversations are answered otherwise, always the same ones: about 4 of 100 with HTTP 503 when they first
come, 4 with HTTP 200 and a temporary error in the body when they first come, 2 with HTTP 200 and "no such conversation" always.
The JSON then also has `answers`: for each conversation, in order, what its requests were answered.
"""

import asyncio
import json
import random
import socket
import sys
import threading
import time
import zlib
from collections import defaultdict

from aiohttp import web
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

CAP, LATENCY = 20, 0.030
JITTER = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0
FAULTS = sys.argv[2:] == ["faults"]
REFUSED = (660300005, "AppID-level call frequency exceeded")

# limits refuses a request while the 20th last accepted one is at most a second old. Exactly one second still counts, so it is
# stricter than the simulator by one clock tick.
storage = MemoryStorage()
limiter, limit = MovingWindowRateLimiter(storage), RateLimitItemPerSecond(CAP)
# limits starts a cleanup thread before it reads the clock, which can delay its time of a request by up to 40 ms. It starts no
# thread while it believes that one is running.
storage.timer = threading.Thread(target=time.sleep, args=[86400], daemon=True)
storage.timer.start()
arrivals = []  # (when, whether accepted)
answers = defaultdict(list)  # of each conversation: codes, or "HTTP 503"


def faulty(conversation):
    """The answer to an accepted request."""
    share, is_first = zlib.crc32(conversation.encode()) % 100, set(answers[conversation]) <= {REFUSED[0]}
    if share < 4 and is_first:
        return "HTTP 503", "Service Unavailable"
    if share < 8 and is_first:
        return 660000001, "general error"
    if 8 <= share < 10:
        return 660800002, "conversation not exist"
    return 0, "success"


async def answer(request):
    if JITTER:
        await asyncio.sleep(random.uniform(0, JITTER))
    now = time.monotonic()
    accepted = limiter.hit(limit)
    arrivals.append((now, accepted))
    code, message = (0, "success") if accepted else REFUSED
    if FAULTS:
        conversation = request.query["ConvId"]
        code, message = faulty(conversation) if accepted else REFUSED
        answers[conversation].append(code)
    await asyncio.sleep(LATENCY)
    if code == "HTTP 503":
        return web.Response(status=503, text=message)
    return web.json_response({"Code": code, "Message": message, "RequestId": str(343649807833778782 + len(arrivals))})


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
app = web.Application()
app.router.add_get("/", answer)
web.run_app(app, sock=listener, print=None, access_log=None)

accepted = [when for when, taken in arrivals if taken]
print(json.dumps({
    "sent": len(arrivals),
    "accepted": len(accepted),
    "refused": len(arrivals) - len(accepted),
    "rate": round((len(accepted) - 1) / (accepted[-1] - accepted[0]), 3) if len(accepted) > 1 else None,
    "peak_1s": max((sum(begin <= when < begin + 1 for when, _ in arrivals) for begin, _ in arrivals), default=0),
    **({"answers": answers} if FAULTS else {}),
}))
