"""Draws how long messages take to their listeners, by percentile, at several rates."""

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dashboard import BACKGROUND, EDGE, FAINT, PALETTE, PANEL, TEXT, save

# As burble-bench names them, and as the picture does.
PERCENTILES = [("p50_ms", "half"), ("p90_ms", "90 %"), ("p99_ms", "99 %"), ("p999_ms", "99.9 %"), ("max_ms", "all")]


def draw(measured, about, machine, file):
    """`measured`: of each rate, the percentiles in milliseconds."""
    figure, axes = plt.subplots(figsize=(10, 4.4), dpi=100, facecolor=BACKGROUND)
    axes.set_facecolor(PANEL)
    places = range(len(PERCENTILES))
    for number, (rate, delivery) in enumerate(measured.items()):
        values, color = [delivery[name] for name, _ in PERCENTILES], PALETTE[number]
        axes.plot(places, values, color=color, marker="o", markersize=5, linewidth=2,
                  label=f"{rate:,} messages a second, {rate * about['members']:,} deliveries")
        for place, value in zip(places, values):
            above = number == len(measured) - 1
            axes.annotate(f"{value:.3g} ms", (place, value), (0, 9 if above else -15), textcoords="offset points",
                          color=color, fontsize=9, ha="center")
    axes.set_yscale("log")
    lowest = min(min(delivery[name] for name, _ in PERCENTILES) for delivery in measured.values())
    highest = max(delivery["max_ms"] for delivery in measured.values())
    axes.set_ylim(lowest / 1.7, highest * 1.7)
    axes.set_xlim(-0.35, len(PERCENTILES) - 0.65)
    axes.set_xticks(places, [f"{name} are there within" if not place else name for place, (_, name) in enumerate(PERCENTILES)])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ms"))
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.grid(color=EDGE, linewidth=0.7)
    for spine in axes.spines.values():
        spine.set_color(EDGE)
    legend = axes.legend(loc="upper left", facecolor=PANEL, edgecolor=EDGE, labelcolor=TEXT, fontsize=9)
    legend.get_frame().set_alpha(1)
    figure.text(0.013, 0.95, "From when a message was due to its arrival at a listener", color=TEXT, fontsize=12, va="center")
    words = "{rooms} rooms of {members}; each message is on the disk before it is acknowledged. ".format(**about)
    figure.text(0.013, 0.89, words + machine, color=FAINT, fontsize=9, va="center")
    figure.tight_layout(rect=(0, 0, 1, 0.87))
    save(figure, file)
