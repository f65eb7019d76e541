#!/usr/bin/env python3
"""Compares `zim-batch check` of 3 million rows with a bare csv-crate loop over the same file: benches/check.py [ROWS] [RUNS]

Each form of the file is read by both programs in turns, RUNS times (5), after one run that warms the page cache. Printed are
the medians of the wall time and of the processor time, and of the most memory that was resident (this script's own 15 MiB are
the least that can be seen), with check's as bytes a row.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000
RUNS = int(sys.argv[2]) if len(sys.argv) > 2 else 5

FORMS = {
    "all different, 5000 users": lambda i: f"user{i % 5000:06},conv{i:07},{i % 2 * 2}\n",
    "a user for each row": lambda i: f"user{i:07},conv{i:07},peer\n",
    "every row twice": lambda i: f"user{i % (ROWS // 2):07},conv,0\n",
    "letters that are not ASCII": lambda i: f"用户{i:07},会话{i:07},0\n",
    "thousands of busy users": lambda i: f"user{i // 1001:06},conv{i % 1001:07},0\n",
    "all fields quoted": lambda i: f'"user{i % 5000:06}","conv{i:07}","{i % 2 * 2}"\n',
    "a dozen columns": lambda i: f"{i},user{i % 5000:06},conv{i:07},0,ok,0,200,success,34364980783377878,1,41,2026-08-01T12:34:56.789Z\n",
}


def build():
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bins", "--example", "bare_csv"], check=True, cwd=Path(__file__).parent.parent)
    target = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parent.parent / "target")) / "release"
    return target / "zim-batch", target / "examples/bare_csv"


def write(path, row):
    header = "line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(header if row(1).count(",") > 2 else "user,conv,type\n")
        file.writelines(map(row, range(ROWS)))


def measure(command):
    """Wall seconds, processor seconds, peak resident MiB."""
    begun = time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (command, process.returncode)
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    zim_batch, bare_csv = build()
    print(f"{ROWS} rows, medians of {RUNS} runs in turns (wall s, CPU s, peak MiB)\n")
    print(f"{'':<28}{'MB':>6} | {'bare csv loop':^20} | {'check':^20} | {'wall':>5} {'CPU':>5} | bytes a row")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "rows.csv")
        for name, row in FORMS.items():
            write(path, row)
            commands = [[bare_csv, path], [zim_batch, "check", path]]
            for command in commands:
                measure(command)
            rounds = [[measure(command) for command in commands] for _ in range(RUNS)]
            bare, check = ([statistics.median(column) for column in zip(*runs)] for runs in zip(*rounds))
            figures = " | ".join(f"{wall:6.2f} {cpu:6.2f} {mib:6.1f}" for wall, cpu, mib in (bare, check))
            a_row = check[2] * 1024 * 1024 / ROWS
            size = path.stat().st_size / 1e6
            print(f"{name:<28}{size:>6.0f} | {figures} | {check[0] / bare[0]:4.1f}x {check[1] / bare[1]:4.1f}x | {a_row:.0f}", flush=True)


if __name__ == "__main__":
    main()
