#!/usr/bin/env python3
"""What rate limits in front of a service do to senders: benches/limiters.py [RUNS] [LIMITER…]

Sends 400 requests at 20/s through limiters of 20/s, on a quiet path and on one with 20 ms of jitter: nginx, HAProxy and Express
(express-rate-limit) with their usual statuses, and three rules of this script's own. Senders are zim-batch and those of
benches/compare.py. What is not installed is named and left out; Express and its limiter are found through NODE_PATH.

Printed are medians of RUNS (1 by default): requests accepted per second, from the first to the last one; the share of the
requests that was refused; and how many of the 400 were never accepted. Only zim-batch sends refused ones again. LIMITER selects
those whose names contain it. A run of everything takes about 40 minutes. Everything stays on 127.0.0.1. ZIM_BATCH=FILE measures
that program instead of the one built here; SENDERS=NAME,NAME selects senders.
"""

import asyncio
import collections
import contextlib
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import compare

CAP, ROWS, JITTER = 20, 400, 0.020
EXPRESS = """
const app = require('express')();
app.use(require('express-rate-limit').rateLimit({ windowMs: 1000, limit: %d }));
app.get('/', (_, response) => response.type('json').send('%s'));
app.listen(%d, '127.0.0.1');
"""


# Limiters that are programs of their own: each is a context that gives its port.

def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def serving(command, port):
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            sys.exit(f"it did not start: {' '.join(map(str, command))}")
        yield port
    finally:
        process.terminate()
        process.wait()


def nginx(limit, status):
    @contextlib.contextmanager
    def start(work):
        port, behind = free_port(), free_port()
        (work / "limit.conf").write_text(f"""
            daemon off; pid {work}/limit.pid; error_log /dev/null; events {{}}
            http {{
              access_log off; limit_req_status {status};
              limit_req_zone $binary_remote_addr zone=all:1m rate={CAP}r/s;
              server {{ listen 127.0.0.1:{port}; location / {{ limit_req zone=all {limit}; proxy_pass http://127.0.0.1:{behind}; }} }}
              server {{ listen 127.0.0.1:{behind}; location / {{ default_type application/json; return 200 '{compare.ANSWER}'; }} }}
            }}""")
        with serving(["nginx", "-e", "/dev/null", "-c", work / "limit.conf"], port) as listening:
            yield listening

    return shutil.which("nginx"), start


def haproxy(deny):
    @contextlib.contextmanager
    def start(work):
        port = free_port()
        answer = compare.ANSWER.replace('"', '\\"')
        (work / "haproxy.cfg").write_text(f"""
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend limited
  bind 127.0.0.1:{port}
  stick-table type ip size 1k expire 10s store http_req_rate(1s)
  http-request track-sc0 src
  http-request {deny} if {{ sc_http_req_rate(0) gt {CAP} }}
  http-request return status 200 content-type application/json string "{answer}"
""")
        with serving(["haproxy", "-db", "-f", work / "haproxy.cfg"], port) as listening:
            yield listening

    return shutil.which("haproxy"), start


def express():
    @contextlib.contextmanager
    def start(_):
        port = free_port()
        with serving(["node", "-e", EXPRESS % (CAP, compare.ANSWER, port)], port) as listening:
            yield listening

    modules = ["node", "-e", "require('express'); require('express-rate-limit')"]
    has_modules = shutil.which("node") and subprocess.run(modules, stderr=subprocess.DEVNULL).returncode == 0
    return has_modules, start


# Limiters of this script's own: each is a function that says whether a request at this time is accepted.

def own(rule):
    @contextlib.contextmanager
    def start(_):
        yield rule()

    return True, start


def fixed_window():
    taken = collections.Counter()

    def accepts(now):
        taken[int(now)] += 1
        return taken[int(now)] <= CAP

    return accepts


def sliding_log():
    taken = collections.deque()

    def accepts(now):
        while taken and taken[0] <= now - 1:
            taken.popleft()
        if len(taken) < CAP:
            taken.append(now)
            return True
        return False

    return accepts


def gcra():
    free = 0.0

    def accepts(now):
        nonlocal free
        if now < free:
            return False
        free = max(free, now - 0.001) + 1 / CAP  # A millisecond of tolerance, so that timers don't decide.
        return True

    return accepts


LIMITERS = {
    "nginx, 503": nginx("", 503),
    "nginx, 503, burst=19 nodelay": nginx("burst=19 nodelay", 503),
    "nginx, 429": nginx("", 429),
    "nginx, 429, burst=19 nodelay": nginx("burst=19 nodelay", 429),
    "HAProxy, 403": haproxy("deny"),
    "HAProxy, 429": haproxy("deny deny_status 429"),
    "express-rate-limit, 429": express(),
    "fixed window, 429": own(fixed_window),
    "sliding log, 429": own(sliding_log),
    "GCRA, 429": own(gcra),
}


class Front:
    """Listens, delays each request by up to `jitter`, and notes when it was accepted or refused by `limiter`: the port of one, or
    a rule."""

    def __init__(self, limiter, jitter):
        self.limiter, self.jitter, self.seen = limiter, jitter, []
        self.loop = asyncio.new_event_loop()
        server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    async def serve(self, reader, writer):
        back = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if not callable(self.limiter):
                back = await asyncio.open_connection("127.0.0.1", self.limiter)
            stays = True
            while stays:
                request = await reader.readuntil(b"\r\n\r\n")
                if self.jitter:
                    await asyncio.sleep(random.uniform(0, self.jitter))
                now = time.time()
                answer, stays = await self.ask(back, request) if back else (self.decide(now), True)
                self.seen.append((now, answer.split(b" ", 2)[1] == b"200"))
                writer.write(answer)
        for open_one in (writer, back and back[1]):
            if open_one:
                open_one.close()

    def decide(self, now):
        status, body = ("200 OK", compare.ANSWER) if self.limiter(now) else ("429 Too Many Requests", "")
        return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    async def ask(self, back, request):
        reader, writer = back
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        body = await reader.readexactly(int(fields.get(b"content-length", 0)))
        return head + body, fields.get(b"connection") != b"close"

    def close(self):
        def end():
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.call_later(0.1, self.loop.stop)

        self.loop.call_soon_threadsafe(end)
        self.thread.join()


def zim_batch(work, port):
    """Rows may fail: that is what is measured."""
    rows = compare.write_rows(work / "rows.csv", ROWS)
    command = [compare.BIN, "clear", rows, "--report", work / "out.csv", "--overwrite", "--progress", "none", "-q"]
    settings = {"ZIM_ENDPOINT": f"http://127.0.0.1:{port}", "ZIM_APP_ID": compare.APP, "ZIM_SERVER_SECRET": compare.SECRET}
    subprocess.run(command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL)


def measure(work, start, send, jitter):
    """Accepted per second, refused %, requests never accepted."""
    with start(work) as limiter:
        front = Front(limiter, jitter)
        send(front.port)
        front.close()
    when = sorted(at for at, accepted in front.seen if accepted)
    refused = len(front.seen) - len(when)
    return (len(when) - 1) / (when[-1] - when[0]), 100 * refused / len(front.seen), ROWS - len(when)


def main():
    arguments = sys.argv[1:]
    runs = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 1
    compare.CALLS = ROWS
    wanted = [name for name in LIMITERS if not arguments or any(part in name for part in arguments)]
    if missing := [name for name in wanted if not LIMITERS[name][0]]:
        print("not installed, left out:", ", ".join(missing))
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        os.environ["ZIM_LOCK_DIR"] = directory
        senders = compare.senders(work) | {"zim-batch": lambda port: zim_batch(work, port)}
        if selected := os.environ.get("SENDERS"):
            senders = {name: send for name, send in senders.items() if name.split()[0] in selected.split(",")}
        for jitter in (0, JITTER):
            print(f"\n{ROWS} requests, {1000 * jitter:.0f} ms of jitter: accepted/s, refused %, never accepted")
            print(f"{'':30}" + "".join(f"{name:^24}" for name in senders))
            for name in wanted:
                is_installed, start = LIMITERS[name]
                if not is_installed:
                    continue
                print(f"{name:30}", end="", flush=True)
                for send in senders.values():
                    found = [measure(work, start, send, jitter) for _ in range(runs)]
                    rate, refused, never = map(statistics.median, zip(*found))
                    print(f"{rate:8.2f}{refused:8.1f}{never:6.0f}  ", end="", flush=True)
                print()


if __name__ == "__main__":
    main()
