#!/usr/bin/env python3
"""Compares the program with other senders on this machine: benches/compare.py [RUNS] [PART…]

RUNS is 3 by default. Without a PART, all parts are run:

  cap       200 requests at 20/s to the built-in simulator, which accepts 20 in any one second and answers after 30 ms:
            requests accepted per second, and requests refused (5 minutes for 3 runs)
  judge     the same with an independent strict server, benches/strict_server.py (5 minutes)
  slow      connections that open slowly: the peak of requests that arrived in one second, and the run's own peak_1s
  uncapped  rows per second with signing, JSON, report and outside log, compared with the bare requests per second of oha and
            of a loop around reqwest
  row       a run of one row, compared with a call of curl, by http and https
  memory    peak resident memory, and memory per row
  cost      processor time per row, compared with that of a request of oha and of a loop around reqwest, and bytes per row,
            at modest rates

Each figure is the median of RUNS alternating runs. Programs that are not installed are left out. Everything stays on 127.0.0.1.
ROWS=N uses N rows instead of 400 000 in uncapped. ZIM_BATCH=FILE measures that program instead of the one built here, for
comparison with an earlier version.
"""

import asyncio
import calendar
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
BIN = Path(os.environ.get("ZIM_BATCH", BUILT / "zim-batch"))
APP, SECRET = "12345", "9193cc662a4c0ec135ec71fb57194b38"
ANSWER = '{"Code":0,"Message":"success","RequestId":"343649807833778782"}'
CALLS = 200
MANY = int(os.environ.get("ROWS", 400_000))
AIOMETER = """
import aiometer, asyncio, httpx, sys
async def main():
    async with httpx.AsyncClient() as client:
        await aiometer.run_on_each(client.get, [sys.argv[1]] * int(sys.argv[2]), max_per_second=20, max_at_once=10)
asyncio.run(main())
"""


# Programs

def installed(*modules):
    return all(importlib.util.find_spec(module) for module in modules)


def run(command, **options):
    """Runs a command. Returns wall seconds, processor seconds, most resident bytes (with `watch`), standard output."""
    with tempfile.TemporaryFile("w+") as out, tempfile.NamedTemporaryFile("r") as most:
        if options.pop("watch", False):
            # The memory reported by wait4 is never less than this script's own; GNU time is small.
            command = ["time", "-f", "%M", "-o", most.name, *command]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, start_new_session=True, **options)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{Path(command[0]).name} ended with status {process.returncode}: {' '.join(map(str, command))}")
        out.seek(0)
        return wall, usage.ru_utime + usage.ru_stime, 1024 * int(most.read() or 0), out.read()


def zim_batch(work, rows, port, *flags, scheme="http", watch=False):
    command = [BIN, "clear", rows, "--report", work / "out.csv", "--json", "--progress", "none", "-q"]
    if "--resume" not in flags:
        command.append("--overwrite")
    endpoint = {"ZIM_ENDPOINT": f"{scheme}://127.0.0.1:{port}", "ZIM_APP_ID": APP, "ZIM_SERVER_SECRET": SECRET}
    wall, cpu, peak, out = run([*command, *flags], env={**os.environ, **endpoint}, watch=watch)
    return wall, cpu, peak, json.loads(out)


def signed_url(port):
    """A signed URL that is valid for ten minutes."""
    now, nonce = str(int(time.time())), "4fd24687296dd9f3"
    signature = hashlib.md5((APP + nonce + SECRET + now).encode()).hexdigest()
    return (
        f"http://127.0.0.1:{port}/?Action=ClearConversationUnread&FromUserId=user1&ConvId=user2&ConvType=0&AppId={APP}"
        f"&SignatureNonce={nonce}&Timestamp={now}&SignatureVersion=2.0&Signature={signature}"
    )


def write_rows(path, count):
    with open(path, "w") as file:
        file.write("user,conv,type\n")
        file.writelines(f"user{row % 5000:06},conv{row:07},{row % 2 * 2}\n" for row in range(count))
    return path


# Servers

@contextlib.contextmanager
def serving(command, port_in, stream):
    """A server that prints its port in the first line of `stream`. The list receives its output on stdout at its end."""
    errors = subprocess.PIPE if stream == "stderr" else None
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    said = []
    try:
        found = re.search(port_in, getattr(process, stream).readline())
        if not found:
            sys.exit(f"it did not start: {' '.join(map(str, command))}")
        port = int(found[1])
        yield port, said
        process.terminate()
        said.append(process.communicate(timeout=10)[0])
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def nginx(work, workers=1, tls=False, log=None):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    certificate = f"ssl_certificate {work}/cert.pem; ssl_certificate_key {work}/key.pem;" if tls else ""
    (work / "nginx.conf").write_text(f"""
        worker_processes {workers}; daemon off; pid {work}/nginx.pid; error_log stderr crit;
        events {{}}
        http {{
          log_format bytes '$request_length $bytes_sent $msec';
          access_log {f'{log} bytes' if log else 'off'};
          keepalive_requests 1000000000;
          server {{
            listen 127.0.0.1:{port} {'ssl' if tls else ''};
            {certificate}
            location / {{ default_type application/json; return 200 '{ANSWER}'; }}
          }}
        }}""")
    process = subprocess.Popen(["nginx", "-e", "stderr", "-c", work / "nginx.conf"])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            process.terminate()
        if process.poll() is not None:
            sys.exit("nginx did not start")
        yield port
    finally:
        process.terminate()
        process.wait()


# The parts

def senders(work):
    """How each program sends 200 requests to a port at 20/s. Programs that are not installed are named."""
    rows, urls = write_rows(work / "200.csv", CALLS), work / "urls"
    silent_curl = ["curl", "-s", "-o", "/dev/null"]

    def oha(port):
        run(["oha", "-n", str(CALLS), "-c", "10", "-q", "20", "--no-tui", signed_url(port)])

    def curl(port):
        run([*silent_curl, "--rate", "20/s", f"{signed_url(port)}&n=[1-{CALLS}]"])

    def parallel(port):
        # One URL per call, quoted by parallel. With a literal URL, parallel would append its input lines, and curl would take
        # them for unreachable hosts.
        urls.write_text(f"{signed_url(port)}\n" * CALLS)
        run(["parallel", "--will-cite", "-a", urls, "-j", "10", "--delay", "0.05", *silent_curl])

    def aiometer(port):
        run([sys.executable, "-c", AIOMETER, signed_url(port), str(CALLS)])

    every = {
        "zim-batch": (True, lambda port: zim_batch(work, rows, port)),
        "oha -q 20": (shutil.which("oha"), oha),
        "curl --rate 20/s": (shutil.which("curl"), curl),
        "parallel --delay 0.05": (shutil.which("parallel") and shutil.which("curl"), parallel),
        "aiometer": (installed("aiometer", "httpx"), aiometer),
    }
    if missing := [name for name, (here, _) in every.items() if not here]:
        print("\nnot installed, left out:", ", ".join(missing))
    return {name: send for name, (here, send) in every.items() if here}


def by_simulator(work, send, jitter):
    """Accepted per second, refused %, peak of one second."""
    events = work / "events"
    events.unlink(missing_ok=True)
    command = [BIN, "simulate", "--cap", "20", "--latency", "30ms", "--arrival-jitter", f"{jitter}ms", "--events", events]
    with serving(command, r"127\.0\.0\.1:(\d+)", "stderr") as (port, said):
        send(port)
    tally = json.loads(said[0])
    # One event per accepted request: in the built-in sample every conversation has an unread message.
    when = [json.loads(line)["at"] for line in events.read_text().splitlines()]
    if tally["codes"].keys() - {"0", "7"} or not tally["accepted"] == len(when) == tally["requests"] - tally["limited"]:
        sys.exit(f"there were answers other than success and too many: {tally}")
    check(tally["requests"], tally["accepted"])
    rate = (len(when) - 1) / (seconds(when[-1]) - seconds(when[0]))
    return rate, 100 * tally["limited"] / tally["requests"], tally["peak_1s"]


def seconds(when):
    return calendar.timegm(time.strptime(when[:19], "%Y-%m-%dT%H:%M:%S")) + float(when[19:-1])


def by_another(work, send, jitter):
    with serving([sys.executable, ROOT / "benches/strict_server.py", str(jitter)], r"(\d+)", "stdout") as (port, said):
        send(port)
    seen = json.loads(said[0])
    check(seen["sent"], seen["accepted"])
    return seen["rate"], 100 * seen["refused"] / seen["sent"], seen["peak_1s"]


def check(sent, accepted):
    """Fails if a program has sent fewer requests."""
    if sent < CALLS or accepted < CALLS * 0.8:
        sys.exit(f"{sent} requests were sent and {accepted} accepted, in the place of {CALLS}")


def at_the_cap(work, runs, judge, name):
    all_senders = senders(work)
    print(f"\nat the cap, {CALLS} requests, {name}\n{'':24}{'quiet network':^34}{'20 ms of jitter':^34}")
    print(f"{'':24}" + f"{'accepted/s':>12}{'refused %':>11}{'most in 1 s':>11}" * 2)
    found = {name: ([], []) for name in all_senders}
    for _ in range(runs):
        for column, jitter in enumerate((0, 20)):
            for name, send in all_senders.items():
                found[name][column].append(judge(work, send, jitter))
    for name, columns in found.items():
        medians = [statistics.median(figures) for column in columns for figures in zip(*column)]
        figures = "".join(f"{rate:12.2f}{refused:11.1f}{peak:11.0f}" for rate, refused, peak in (medians[:3], medians[3:]))
        print(f"{name:24}{figures}")
    print("accepted/s: (n - 1) / (last - first) of the accepted requests, by the server's clock")


def cap(work, runs):
    at_the_cap(work, runs, by_simulator, "built-in simulator")


def judge(work, runs):
    if not installed("aiohttp", "limits"):
        return print("\njudge: left out, aiohttp and limits are not installed")
    at_the_cap(work, runs, by_another, "limits' moving window behind aiohttp")


class Forwarder:
    """A forwarder between a run and a server that makes connections slow to open. `stall`: nothing passes before that many seconds after the first
    connection. `each`: nothing passes in the first seconds of each connection. `way`: seconds that everything takes, each way.
    `cut`: after this many seconds all connections are cut, and again nothing passes for `stall` seconds."""

    def __init__(self, port, stall=0, each=0, way=0, cut=None):
        self.port, self.stall, self.each, self.way, self.cut = port, stall, each, way, cut
        self.opens_at, self.open, self.loop = None, set(), asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.listens_at = self.server.sockets[0].getsockname()[1]
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    async def serve(self, reader, writer):
        now = self.loop.time()
        if self.opens_at is None:
            self.opens_at = now + self.stall
            if self.cut is not None:
                self.loop.call_later(self.cut, self.cut_all)
        self.open.add(writer)
        await asyncio.sleep(max(self.opens_at - now, self.each))
        # Cancelled at the end.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
            self.open.add(back)
            await asyncio.gather(self.copy(reader, back), self.copy(there, writer))

    async def copy(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.loop.call_later(self.way, writer.write, data)
            self.loop.call_later(self.way, writer.close)

    def cut_all(self):
        self.opens_at = self.loop.time() + self.stall
        for writer in self.open:
            writer.transport.abort()
        self.open.clear()

    def close(self):
        def end():
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.call_later(0.1, self.loop.stop)

        self.loop.call_soon_threadsafe(end)


def most_in_a_second(times):
    """The peak of one second, and how many requests a strict server with a limit of 20 would have refused."""
    times, taken, refused = sorted(times), [], 0
    most = max(sum(1 for time in times[nth:nth + 400] if time < first + 1) for nth, first in enumerate(times))
    for time in times:
        taken = [earlier for earlier in taken if earlier > time - 1]
        refused += len(taken) >= 20
        taken += [time] * (len(taken) < 20)
    return most, refused


def slow(work, runs):
    if not all(map(shutil.which, ("nginx", "openssl"))):
        return print("\nslow: left out, it needs nginx and openssl")
    make_certificate(work)
    rows = write_rows(work / "slow.csv", 240)
    print(f"\nconnections that open slowly, TLS, 240 rows at 20/s\n{'':38}{'arrived':>9}{'peak_1s':>9}{'refused':>9}{'per s':>10}")
    for name, how in (
        ("quiet", {}),
        ("150 ms there and back", {"way": 0.075}),
        ("nothing passes for the first 8 s", {"stall": 8}),
        ("each connection takes 4 s", {"each": 4}),
        ("cut after 5 s, nothing passes for 3 s", {"stall": 3, "cut": 5}),
    ):
        found = []
        for _ in range(runs):
            log = work / "arrivals.log"
            log.unlink(missing_ok=True)
            with nginx(work, tls=True, log=log) as port:
                forwarder = Forwarder(port, **how)
                summary = zim_batch(work, rows, forwarder.listens_at, "--ca-cert", work / "cert.pem", scheme="https")[3]
                forwarder.close()
            if summary["ok"] != 240:
                sys.exit(f"not all were answered: {summary}")
            arrived, refused = most_in_a_second([float(line.split()[2]) for line in open(log)])
            found.append((arrived, summary["peak_1s"], refused, summary["rate"]))
        arrived, peak, refused, rate = (max(figures) for figures in zip(*found))
        print(f"{name:38}{arrived:9}{peak:9}{refused:9}{rate:10.2f}")
    print(f"the worst of {runs} runs; refused: what a server would have refused that takes 20 in any second")


def make_certificate(work):
    # Not a CA certificate: rustls refuses one as a server's certificate.
    extensions = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    files = ["-keyout", work / "key.pem", "-out", work / "cert.pem"]
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    run([*request, "-subj", "/CN=127.0.0.1", *extensions, *files], stderr=subprocess.DEVNULL)


def uncapped(work, runs):
    if not all(map(shutil.which, ("oha", "nginx", "time"))):
        return print("\nuncapped: left out, it needs oha, nginx and GNU time")
    rows = write_rows(work / "many.csv", MANY)
    print(f"\nuncapped, {MANY} rows, 64 in flight, nginx on the same machine, {os.cpu_count()} cores")
    print(f"{'':24}{'zim-batch':^37}{'oha':^28}{'':8}{'bare reqwest':^28}")
    columns = f"{'per s':>14}{'CPU µs each':>14}"
    print(f"{'nginx':24}{columns}{'peak MB':>9}{columns}{'ratio':>8}{columns}")
    for workers in (1, "auto"):
        pairs = []
        for _ in range(runs):
            with nginx(work, workers) as port:
                flags = ("--rate", "1000000", "--max-in-flight", "64")
                _, cpu, peak, summary = zim_batch(work, rows, port, *flags, watch=True)
                _, oha_cpu, _, out = run(["oha", "-n", str(MANY), "-c", "64", "--no-tui", signed_url(port)])
                _, bare_cpu, _, bare = run([BUILT / "examples/bare_reqwest", signed_url(port), str(MANY), "64"])
            if summary["ok"] != MANY or f"[200] {MANY} responses" not in out:
                sys.exit(f"not all were answered: {summary}\n{out}")
            ours, oha = MANY / summary["elapsed_s"], float(re.search(r"Requests/sec:\s*([\d.]+)", out)[1])
            each = [1e6 * whole / MANY for whole in (cpu, oha_cpu, bare_cpu)]
            pairs.append((ours, each[0], peak / 1e6, oha, each[1], ours / oha, float(bare.split()[0]), each[2]))
        ours, cpu, peak, oha, oha_cpu, ratio, bare, bare_cpu = map(statistics.median, zip(*pairs))
        print(
            f"{f'worker_processes {workers}':24}{ours:14.0f}{cpu:14.1f}{peak:9.1f}{oha:14.0f}{oha_cpu:14.1f}{ratio:8.2f}"
            f"{bare:14.0f}{bare_cpu:14.1f}"
        )
    print("ratio: zim-batch to oha, the median of the pairs'")


def row(work, runs):
    if not all(map(shutil.which, ("curl", "nginx", "openssl"))):
        return print("\nrow: left out, it needs curl, nginx and openssl")
    make_certificate(work)
    rows = write_rows(work / "one.csv", 1)
    print(f"\none row, medians of {100 * runs} runs in turns, ms\n{'':10}{'zim-batch':>12}{'curl':>8}{'CPU':>12}{'CPU':>8}")
    trusted = work / "cert.pem"
    for scheme, ours, theirs in (("http", (), ()), ("https", ("--ca-cert", trusted), ("--cacert", trusted))):
        with nginx(work, tls=scheme == "https") as port:
            url = signed_url(port).replace("http", scheme, 1)
            times = []
            for _ in range(100 * runs):
                one = zim_batch(work, rows, port, "--rate", "100000", *ours, scheme=scheme)
                other = run(["curl", "-s", *theirs, url])
                if one[3]["ok"] != 1 or other[3] != ANSWER:
                    sys.exit(f"not answered: {one}, {other}")
                times.append((one[0], other[0], one[1], other[1]))
        one, other, cpu, other_cpu = (1000 * statistics.median(figures) for figures in zip(*times))
        print(f"{scheme:10}{one:12.1f}{other:8.1f}{cpu:12.1f}{other_cpu:8.1f}")


def memory(work, runs):
    if not shutil.which("time"):
        return print("\nmemory: left out, it needs GNU time")
    few, many = write_rows(work / "few.csv", 1000), write_rows(work / "million.csv", 1_000_000)

    def peak(*command):
        nowhere = {"ZIM_APP_ID": APP, "ZIM_SERVER_SECRET": SECRET, "ZIM_ENDPOINT": "http://127.0.0.1:1"}
        return statistics.median(run(command, watch=True, env={**os.environ, **nowhere})[2] for _ in range(runs))

    def report(rows):
        path = work / f"{rows.stem}.report.csv"
        rest = "ok,0,200,success,343649807833778782,1,31,2026-08-01T12:34:56.789Z"
        with open(rows) as read, open(path, "w") as write:
            next(read)
            write.write("line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at\n")
            write.writelines(f"{line},{text.rstrip()},{rest}\n" for line, text in enumerate(read, 2))
        return path

    def resume(rows, *flags):
        return ["clear", rows, "--report", report(rows), "--resume", "--json", "--progress", "none", *flags]

    print(f"\nmemory, the most that was resident\n{'':32}{'1000 rows, MB':>14}{'1 000 000, MB':>16}{'bytes a row':>13}")
    for name, command in (
        ("check", lambda rows: ["check", rows]),
        ("clear --resume, all done", resume),
        ("clear --resume --dedupe", lambda rows: resume(rows, "--dedupe")),
    ):
        least, most = (peak(BIN, *command(rows)) for rows in (few, many))
        print(f"{name:32}{least / 1e6:14.1f}{most / 1e6:16.1f}{(most - least) / (1_000_000 - 1000):13.1f}")


def cost(work, runs):
    if not shutil.which("nginx"):
        return print("\ncost: left out, it needs nginx")
    print(f"\ncost of a row\n{'':28}{'per s':>10}{'CPU µs':>8}{'oha':>8}{'reqwest':>9}{'sent':>6}{'received':>10}{'report':>8}  bytes")
    for count, rate in ((200, 20), (2000, 200)):
        rows, found = write_rows(work / "cost.csv", count), []
        for _ in range(runs):
            log = work / "bytes.log"
            log.unlink(missing_ok=True)
            with nginx(work, log=log) as port:
                _, cpu, _, summary = zim_batch(work, rows, port, "--rate", str(rate))
                sent, received = zip(*(map(int, line.split()[:2]) for line in open(log)))
                bare = ["oha", "-n", str(count), "-c", "10", "-q", str(rate), "--no-tui", signed_url(port)]
                oha_cpu = run(bare)[1] if shutil.which("oha") else math.nan
                bare_cpu = run([BUILT / "examples/bare_reqwest", signed_url(port), str(count), "1", str(rate)])[1]
            if len(sent) != count or summary["ok"] != count:
                sys.exit(f"not all were answered: {summary}")
            wholes = (1e6 * cpu, 1e6 * oha_cpu, 1e6 * bare_cpu, sum(sent), sum(received), (work / "out.csv").stat().st_size)
            a_row = [whole / count for whole in wholes]
            found.append((summary["rate"], *a_row))
        a_second, cpu, oha_cpu, bare_cpu, sent, received, report = map(statistics.median, zip(*found))
        print(
            f"{f'{count} rows at {rate}/s':28}{a_second:10.2f}{cpu:8.0f}{oha_cpu:8.0f}{bare_cpu:9.0f}{sent:6.0f}{received:10.0f}"
            f"{report:8.0f}"
        )


PARTS = {part.__name__: part for part in (cap, judge, slow, uncapped, row, memory, cost)}


def main():
    words = sys.argv[1:]
    runs = int(words.pop(0)) if words and words[0].isdigit() else 3
    if runs < 1 or set(words) - PARTS.keys():
        sys.exit(__doc__)
    # Also cleans up senders, servers and files on this signal.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit("ended by a signal"))
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bins", "--example", "bare_reqwest"], check=True, cwd=ROOT)
    sys.stdout.reconfigure(line_buffering=True)
    with tempfile.TemporaryDirectory() as work:
        for part in words or PARTS:
            PARTS[part](Path(work), runs)


if __name__ == "__main__":
    main()
