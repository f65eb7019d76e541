#!/usr/bin/env python3
"""Compares the program with what people write instead: benches/compare_tools.py [RUNS]

The scripts in benches/comparison, a curl loop, GNU parallel and a Python script, and `zim-batch clear` each send 400 rows to
benches/strict_server.py with faults, which accepts strictly 20 requests in any second. First without a disturbance; then each
is killed (SIGKILL, with all its processes) after ten seconds, and the same command is run again.

Printed are medians of RUNS (3 by default). Needs curl, openssl, GNU parallel, and the Python packages requests, aiohttp and
limits. Everything stays on 127.0.0.1. ZIM_BATCH=FILE measures that program instead of the release build.
"""

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
SCRIPTS = BENCHES / "comparison"
BIN = Path(os.environ.get("ZIM_BATCH", BENCHES.parent / "target/release/zim-batch"))
APP = {"ZIM_APP_ID": "12345", "ZIM_SERVER_SECRET": "9193cc662a4c0ec135ec71fb57194b38"}
ROWS, KILLED_AFTER = 400, 10  # seconds
OUTSIDE = 660800002


# The tools: the command, and the conversations that it says are cleared.

def results(work):
    with open(work / "stdout") as file:
        return {conv for _, conv, outcome in csv.reader(file) if outcome == "ok"}


def joblog(work):
    with open(work / "joblog") as file:
        return {line["Command"].split()[2] for line in csv.DictReader(file, delimiter="\t") if line["Exitval"] == "0"}


def report(work):
    with open(work / "out.csv") as file:
        return {record["conv"] for record in csv.DictReader(file) if record["outcome"] == "ok"}


TOOLS = {
    "curl loop": (lambda work: [SCRIPTS / "curl_loop.sh", work / "rows.csv"], results),
    "GNU parallel": (lambda work: [SCRIPTS / "parallel.sh", work / "rows.csv", work / "joblog"], joblog),
    "Python script": (lambda work: [sys.executable, SCRIPTS / "script.py", work / "rows.csv"], results),
    "zim-batch": (lambda work: [BIN, "clear", work / "rows.csv", "--report", work / "out.csv", "--resume", "-q"], report),
}


class Server:
    """The strict server; at the end of the block, `seen` has what it saw."""

    def __enter__(self):
        command = [sys.executable, BENCHES / "strict_server.py", "0", "faults"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.endpoint = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.seen = json.loads(self.process.communicate(timeout=10)[0])


def start(tool, work, endpoint):
    command = TOOLS[tool][0](work)
    environment = {**os.environ, **APP, "ZIM_ENDPOINT": endpoint, "ZIM_LOCK_DIR": str(work), "HOME": str(work)}
    with open(work / "stdout", "a") as out, open(work / "stderr", "a") as errors:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment, start_new_session=True)


def undisturbed(tool, work):
    with Server() as server:
        begun = time.perf_counter()
        process = start(tool, work, server.endpoint)
        process.wait()
        took = time.perf_counter() - begun
    cleared, reachable = outcome_of(server.seen["answers"])
    claimed = TOOLS[tool][1](work)
    return {
        "rows/s": ROWS / took,
        "peak of a second": server.seen["peak_1s"],
        "refused": server.seen["refused"],
        "said to be cleared, but not": len(claimed - cleared),
        "not cleared": len(reachable - cleared),
    }


def killed(tool, work):
    with Server() as server:
        process = start(tool, work, server.endpoint)
        time.sleep(KILLED_AFTER)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        start(tool, work, server.endpoint).wait()
    cleared, reachable = outcome_of(server.seen["answers"])
    again = sum(codes[codes.index(0) + 1:] != [] for codes in server.seen["answers"].values() if 0 in codes)
    return {"cleared twice": again, "not cleared, after a kill": len(reachable - cleared)}


def outcome_of(answers):
    """The conversations that were cleared, and those that can be."""
    return {conv for conv, codes in answers.items() if 0 in codes}, {conv for conv, codes in answers.items() if OUTSIDE not in codes}


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{ROWS} rows; medians of {runs} runs")
    for tool in TOOLS:
        found = []
        for _ in range(runs):
            figures = {}
            for scenario in (undisturbed, killed):
                with tempfile.TemporaryDirectory() as directory:
                    work = Path(directory)
                    rows = (f"user{row:03},conv{row:03},{row % 2 * 2}\n" for row in range(ROWS))
                    (work / "rows.csv").write_text("user,conv,type\n" + "".join(rows))
                    figures |= scenario(tool, work)
            found.append(figures)
        print(f"\n{tool}")
        for name in found[0]:
            values = [figures[name] for figures in found]
            print(f"  {name:30}{statistics.median(values):8.1f}    {' '.join(f'{value:.1f}' for value in values)}", flush=True)


if __name__ == "__main__":
    main()
