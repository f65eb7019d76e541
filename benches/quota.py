#!/usr/bin/env python3
"""Three runs that share a quota: benches/quota.py [RUNS]

Starts together, against `zim-batch simulate`, which accepts 20 requests in any one second: three runs of 200 rows that share the
quota on one machine, then through a Redis that is 0, 1 and 10 ms away in each direction. Prints the requests per second of all
runs together while all three run, the smallest and the largest share, and the refused requests: medians of RUNS (3 by default).
Needs redis-server. Everything stays on 127.0.0.1. ZIM_BATCH=FILE measures that program instead of the release build.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("ZIM_BATCH", ROOT / "target" / "release" / "zim-batch"))
ROWS, USERS = 200, ("a", "b", "c")
APP = {"ZIM_APP_ID": "12345", "ZIM_SERVER_SECRET": "9193cc662a4c0ec135ec71fb57194b38"}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(port):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)


async def delayed(port, seconds):
    """Listens, and passes everything on to the port after a delay in each direction."""

    async def pipe(reader, writer):
        loop, queue = asyncio.get_running_loop(), asyncio.Queue()

        async def read():
            while data := await reader.read(65536):
                queue.put_nowait((loop.time() + seconds, data))
            queue.put_nowait((loop.time() + seconds, b""))

        reading = asyncio.create_task(read())
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not data:
                return writer.close(), reading.cancel()
            writer.write(data)

    async def connected(reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(pipe(reader, back), pipe(there, writer), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def measure(directory, quota_of):
    """Runs all three; `quota_of` gives each the variables through which it shares."""
    port = free_port()
    simulator = subprocess.Popen([BIN, "simulate", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wait_for(port)
    runs = []
    for user in USERS:
        rows = directory / f"{user}.csv"
        rows.write_text("user,conv,type\n" + "".join(f"{user}{row},x,0\n" for row in range(ROWS)))
        command = [BIN, "clear", rows, "--report", directory / f"{user}.out.csv", "--overwrite", "--json", "--progress", "none"]
        variables = {**os.environ, **APP, "ZIM_ENDPOINT": f"http://127.0.0.1:{port}", **quota_of(user)}
        runs.append(await asyncio.create_subprocess_exec(
            *map(str, command), env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    summaries = [json.loads((await run.communicate())[0]) for run in runs]
    simulator.send_signal(signal.SIGTERM)
    told = json.loads(simulator.communicate()[0])
    rates = [summary["rate"] for summary in summaries]
    assert all(summary["ok"] == ROWS for summary in summaries), summaries
    return sum(rates), min(rates) / sum(rates), max(rates) / sum(rates), told["limited"], told["peak_1s"]


async def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        port = free_port()
        redis = subprocess.Popen(["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""],
                                 cwd=directory, stdout=subprocess.DEVNULL)
        wait_for(port)
        ways = {"one machine": lambda _: {"ZIM_LOCK_DIR": str(directory)}}
        servers = []
        for milliseconds in (0, 1, 10):
            server, away = await delayed(port, milliseconds / 1000)
            servers.append(server)
            ways[f"Redis, {milliseconds} ms"] = lambda _, away=away: {"ZIM_QUOTA": f"redis://127.0.0.1:{away}"}
        found = {way: [] for way in ways}
        for _ in range(runs):
            for way, quota_of in ways.items():
                found[way].append(await measure(directory, quota_of))
        print(f"{'':<14} {'all runs':>9} {'shares':>13} {'refused':>8} {'peak':>5}")
        for way, results in found.items():
            rate, least, most, refused, peak = map(statistics.median, zip(*results))
            print(f"{way:<14} {rate:>7.2f}/s {least:>6.2f}-{most:.2f} {refused:>8} {peak:>5}")
        redis.terminate()
        redis.wait()


asyncio.run(main())
