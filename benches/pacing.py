#!/usr/bin/env python3
"""Draws two control laws of the limiter beside each other, for comparison of a change with what was before.

    cargo bench --bench pacing -- /tmp/new.csv       # in this tree
    cargo bench --bench pacing -- /tmp/old.csv       # in one with another src/limiter
    python3 benches/pacing.py before=/tmp/old.csv now=/tmp/new.csv /tmp/pacing.svg

Needs matplotlib. The same data give the same bytes.
"""

import csv
import sys
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({
    "svg.fonttype": "none",
    "svg.hashsalt": "zim-batch",
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
})
import matplotlib.pyplot as plt  # noqa: E402

SECONDS_SHOWN = 300
MEAN_OVER = 5  # seconds
BLUE, GREY, RED = "#1f5fa8", "#8a8a8a", "#d0312d"


def read(path):
    courses = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            second = int(row["second"])
            if second < SECONDS_SHOWN:
                values = float(row["aimed"]), int(row["accepted"]), int(row["refused"])
                courses[row["scenario"]].append((second, *values))
    return courses


def turns(xs, ys):
    """The points at which the line changes direction; the others would only make the file larger."""
    last = len(ys) - 1
    kept = [at for at in range(len(ys)) if at in (0, last) or not ys[at - 1] == ys[at] == ys[at + 1]]
    return [xs[at] for at in kept], [ys[at] for at in kept]


def draw(axes, course):
    seconds, aimed, accepted, refused = map(list, zip(*course))
    means = [sum(accepted[at:at + MEAN_OVER]) / MEAN_OVER for at in range(0, len(accepted) - MEAN_OVER + 1, MEAN_OVER)]
    middles = [second + MEAN_OVER / 2 for second in seconds[:len(means) * MEAN_OVER:MEAN_OVER]]
    axes.plot(*turns(middles, means), color=GREY, linewidth=0.8)
    axes.plot(*turns(seconds, aimed), color=BLUE, linewidth=1.2)
    # If the rate stays near the cap, only the top is shown, and a refusal is a short line at the bottom.
    is_near_cap = min(aimed) > 17.5
    bottom, one = (17.5, 0.15) if is_near_cap else (0, 1)
    hits = [(second, count) for second, count in zip(seconds, refused) if count]
    if hits:
        tops = [bottom + one * count for _, count in hits]
        axes.vlines([second for second, _ in hits], bottom, tops, color=RED, linewidth=1.4)
    total = sum(accepted) + sum(refused)
    rate = sum(accepted) / len(seconds)
    axes.set_title(f"{sum(refused)} of {total} refused, {rate:.1f} accepted/s", fontsize=8, loc="right")
    return is_near_cap


def main(arguments):
    *inputs, output = arguments
    laws = [argument.split("=", 1) for argument in inputs]
    courses = [(name, read(path)) for name, path in laws]
    scenarios = list(courses[0][1])
    figure, grid = plt.subplots(
        len(scenarios), len(courses), sharex="row", sharey="row",
        figsize=(9.5, 1.75 * len(scenarios)), squeeze=False, layout="constrained",
    )
    for row, scenario in zip(grid, scenarios):
        near_cap = [draw(axes, data[scenario]) for axes, (_, data) in zip(row, courses)]
        for axes, (law, _) in zip(row, courses):
            axes.set_title(f"{scenario}: {law}", fontsize=8, loc="left", fontweight="bold")
            axes.set_ylim(*((17.5, 20.4) if all(near_cap) else (0, 21.5)))
            axes.set_xlim(left=0)
            axes.set_yticks([18, 19, 20] if all(near_cap) else [0, 5, 10, 15, 20])
            axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
            axes.set_axisbelow(True)
    for axes in grid[-1]:
        axes.set_xlabel("seconds")
    figure.legend(
        handles=[
            plt.Line2D([], [], color=BLUE, label="rate aimed at"),
            plt.Line2D([], [], color=GREY, label=f"accepted per second, over {MEAN_OVER} s"),
            plt.Line2D([], [], color=RED, label="refused in that second"),
        ],
        loc="outside lower center", ncols=3, frameon=False,
    )
    figure.patch.set_facecolor("white")
    figure.savefig(output, metadata={"Date": None} if output.endswith(".svg") else None, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])
