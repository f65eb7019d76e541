#!/usr/bin/env python3
"""Compares `zim-batch report` of 5 million records with a bare csv-crate loop over the same file: benches/report.py [RECORDS] [RUNS]

The programs read each file in turns, RUNS times (5), after one run that warms the page cache. Printed are the medians of the
wall time and of the processor time, and of the most memory that was resident; and the size of the page (`--html`). Where xan or
qsv is installed, its counts of the outcomes and codes are measured too.
"""

import datetime
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from check import build, measure

RECORDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
RUNS = int(sys.argv[2]) if len(sys.argv) > 2 else 5

HEADER = "line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at\n"
BEGAN = datetime.datetime(2026, 11, 25, tzinfo=datetime.timezone.utc)
OK = "ok,0,200,success"
OUTSIDE = "outside,660800002,200,no such conversation"
FAILED = "failed,,503,HTTP 503"


def mostly_ok(i):
    return f"user{i % 50_000:06}", FAILED if i % 1000 == 0 else OUTSIDE if i % 100 == 1 else OK


def another_user_fails_each_time(i):
    return f"user{i:07}", FAILED


# The times of the records: evenly paced, and at random within 50 years, so that a pause precedes each record.
FORMS = {
    "1 in 100 not ok": (mostly_ok, lambda i: i * 50),
    "a user for each, all failed": (another_user_fails_each_time, lambda i: i * 50),
    "times at random": (mostly_ok, lambda i: i * 7919 * 104_729 % 1_600_000_000_000),
}


def write(path, of, ended):
    second, text = None, ""
    with open(path, "w", encoding="utf-8") as file:
        file.write(HEADER)
        for i in range(RECORDS):
            user, outcome = of(i)
            seconds, milliseconds = divmod(ended(i), 1000)
            if seconds != second:
                second, text = seconds, (BEGAN + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
            file.write(f"{i + 2},{user},conv{i:07},0,{outcome},34364980783377878,1,{30 + i * 31 % 40},{text}.{milliseconds:03}Z\n")


def main():
    zim_batch, bare_csv = build()
    others = [[xan, "frequency", "-s", "outcome,code"] for xan in [shutil.which("xan")] if xan]
    others += [[qsv, "frequency", "-s", "outcome,code"] for qsv in [shutil.which("qsv")] if qsv]
    names = ["bare csv loop", *(Path(other[0]).name + " frequency" for other in others), "report", "report --html"]
    print(f"{RECORDS} records, medians of {RUNS} runs in turns (wall s, CPU s, peak MiB)\n")
    print(f"{'':<28}{'MB':>6} | " + " | ".join(f"{name:^20}" for name in names) + " | page kB")
    with tempfile.TemporaryDirectory() as directory:
        path, page = Path(directory, "out.csv"), Path(directory, "out.html")
        for name, (of, ended) in FORMS.items():
            write(path, of, ended)
            report = [zim_batch, "report", path]
            commands = [[bare_csv, path], *([*other, path] for other in others), report, [*report, "--html", page]]
            for command in commands:
                measure(command)
            rounds = [[measure(command) for command in commands] for _ in range(RUNS)]
            medians = [[statistics.median(column) for column in zip(*runs)] for runs in zip(*rounds)]
            figures = " | ".join(f"{wall:6.2f} {cpu:6.2f} {mib:6.1f}" for wall, cpu, mib in medians)
            size = path.stat().st_size / 1e6
            print(f"{name:<28}{size:>6.0f} | {figures} | {page.stat().st_size / 1000:.0f}", flush=True)


if __name__ == "__main__":
    main()
