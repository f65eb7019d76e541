#!/usr/bin/env python3
"""An independent strict server for the pacing benchmark: benches/strict_server.py [JITTER_MS]

The moving window of the PyPI package `limits` (20 in any second; refused requests don't count) behind aiohttp, on a free port
of 127.0.0.1. It answers after 30 ms like ZIM, but looks at no parameter. With JITTER_MS a request is first on its way for up to
that long. The first line printed is the port; after SIGTERM comes what was seen, as JSON.
"""

import asyncio
import json
import random
import socket
import sys
import threading
import time

from aiohttp import web
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

CAP, LATENCY = 20, 0.030
JITTER = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0

# limits refuses a request while the 20th last accepted one is at most a second old. Exactly one second still counts, so it is
# stricter than the simulator by one clock tick.
storage = MemoryStorage()
limiter, limit = MovingWindowRateLimiter(storage), RateLimitItemPerSecond(CAP)
# limits starts a cleanup thread before it reads the clock, which can delay its time of a request by up to 40 ms. It starts no
# thread while it believes that one is running.
storage.timer = threading.Thread(target=time.sleep, args=[86400], daemon=True)
storage.timer.start()
arrivals = []  # (when, whether accepted)


async def answer(_):
    if JITTER:
        await asyncio.sleep(random.uniform(0, JITTER))
    now = time.monotonic()
    accepted = limiter.hit(limit)
    arrivals.append((now, accepted))
    await asyncio.sleep(LATENCY)
    code, message = (0, "success") if accepted else (660300005, "AppID-level call frequency exceeded")
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
}))
