"""Draws how long a message takes to its listeners, over how many are sent."""

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dashboard import BACKGROUND, EDGE, FAINT, PANEL, TEXT, save

COLORS = {"fsync": "#ff9830", "memory": "#73bf69"}
WORDS = {"fsync": "on the disk before its ok", "memory": "in the memory of Redis before its ok"}


def plain(value, _=None):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def draw(measured, rooms, members, machine, file):
    """`measured`: of each durability, the rates with their p50 and p99 in milliseconds."""
    figure, axes = plt.subplots(figsize=(10, 4.6), dpi=100, facecolor=BACKGROUND)
    axes.set_facecolor(PANEL)
    for durability, points in measured.items():
        rates = [rate for rate, _, _ in points]
        for quantile, style in ((2, "-"), (1, "--")):
            values = [point[quantile] for point in points]
            axes.plot(rates, values, style, color=COLORS[durability], marker="o", markersize=4, linewidth=1.8)
            name = "p99" if quantile == 2 else "p50"
            axes.annotate(f"{name}, {durability}", (rates[-1], values[-1]), (8, 0), textcoords="offset points",
                          color=COLORS[durability], fontsize=9, va="center")
    axes.set(xscale="log", yscale="log")
    ticks = sorted({rate for points in measured.values() for rate, _, _ in points})
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [plain(rate) for rate in ticks])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.set_xlim(ticks[0] * 0.9, ticks[-1] * 1.55)
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.grid(color=EDGE, linewidth=0.7)
    for spine in axes.spines.values():
        spine.set_color(EDGE)
    axes.set_xlabel(f"messages sent in a second, each to {members} listeners ({rooms} rooms)", color=FAINT, fontsize=9)
    axes.set_ylabel("milliseconds", color=FAINT, fontsize=9)
    axes.set_title("From when a message was due to its arrival at a listener", color=TEXT, fontsize=12, loc="left", pad=26)
    words = "; ".join(f"{name}: {WORDS[name]}" for name in measured)
    axes.text(0, 1.03, words, color=FAINT, fontsize=9, transform=axes.transAxes)
    axes.text(1, 1.03, machine, color=FAINT, fontsize=9, ha="right", transform=axes.transAxes)
    figure.tight_layout()
    save(figure, file)
