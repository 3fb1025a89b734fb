"""Draws rows of a dashboard of grafana/ as Grafana lays them out, from what Prometheus answers to its queries."""

import io
import math
import re
import time

import matplotlib
import matplotlib.dates as dates
import matplotlib.pyplot as plt
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

import system

matplotlib.use("Agg")

# Pixels of a column and of a line of the grid, at 100 dots per inch.
COLUMN, LINE, GAP = 58, 31, 8
BACKGROUND, PANEL, EDGE, TEXT, FAINT = "#111217", "#181b1f", "#2c3038", "#d5d9e0", "#8e95a3"
PALETTE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d", "#ffb357", "#e0b400"]
NAMED = {"green": "#73bf69", "red": "#f2495c", "orange": "#ff9830", "blue": "#5794f2"}
HEAT = matplotlib.colormaps["turbo"]
# As many names as fit below a panel, and no more letters than that.
LEGEND_MAX, LEGEND_LETTERS = 7, 100


def scaled(value, steps, base):
    for factor, unit in steps:
        if abs(value) >= factor:
            return f"{value / factor:.3g} {unit}".rstrip()
    return f"{value:.3g} {base}".rstrip()


def shown(value, unit, decimals=None):
    """As Grafana writes a value with its unit."""
    if unit == "percentunit":
        return f"{value * 100:.{decimals}f} %" if decimals is not None else f"{value * 100:.3g} %"
    if unit == "s":
        return scaled(value, [(1, "s"), (1e-3, "ms"), (1e-6, "µs")], "s") if value else "0 s"
    if unit == "bytes":
        return scaled(value, [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")], "B")
    suffix = {"cps": "/s", "reqps": "/s"}.get(unit, "")
    return scaled(value, [(1e6, "M"), (1e3, "k")], "") + suffix


def save(figure, file):
    """With a palette: a third of the size."""
    picture = io.BytesIO()
    figure.savefig(picture, facecolor=BACKGROUND)
    plt.close(figure)
    Image.open(picture).convert("RGB").quantize(200, dither=Image.Dither.NONE).save(file, optimize=True)


class Painter:
    """What is drawn, of which time, from where."""

    def __init__(self, prometheus, begin, end):
        self.prometheus, self.begin, self.end = prometheus, begin, end
        self.step = max(system.SCRAPE_SECONDS, round((end - begin) / 300))
        self.variables = {
            "$__rate_interval": f"{8 * system.SCRAPE_SECONDS}s", "$__range": f"{int(end - begin)}s",
            "$job": "burble", "$instance": ".+",
        }

    def expression(self, text):
        for name, value in self.variables.items():
            text = text.replace(name, value)
        return text

    def series(self, target):
        found = system.query_range(self.prometheus, self.expression(target["expr"]), self.begin, self.end, self.step)
        for one in found:
            legend = re.sub(r"{{\s*(\w+)\s*}}", lambda label: one["metric"].get(label[1], ""), target["legendFormat"])
            # matplotlib counts days.
            yield legend, [at / 86_400 for at, _ in one["values"]], [float(value) for _, value in one["values"]]

    def stat(self, axes, panel):
        found = system.query(self.prometheus, self.expression(panel["targets"][0]["expr"]), self.end)
        defaults = panel["fieldConfig"]["defaults"]
        value = float(found[0]["value"][1])
        steps = defaults["thresholds"]["steps"]
        color = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
        text = shown(value, defaults["unit"], defaults.get("decimals"))
        axes.text(0.5, 0.40, text, color=NAMED[color], fontsize=21, ha="center", va="center", weight="medium")
        axes.set_axis_off()

    def lines(self, axes, panel):
        unit = panel["fieldConfig"]["defaults"]["unit"]
        everything = [one for target in panel["targets"] for one in self.series(target)]
        # What never was is not worth a line among what was.
        alive = [one for one in everything if any(value and math.isfinite(value) for value in one[2])] or everything[:1]
        alive.sort(key=lambda one: -sum(value for value in one[2] if math.isfinite(value)))
        base = None
        for number, (_, times, values) in enumerate(alive):
            color = PALETTE[number % len(PALETTE)]
            if panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal" and len(alive) > 1:
                known = dict(zip(times, values))
                grid = sorted({at for _, moments, _ in alive for at in moments})
                base = base or [0.0] * len(grid)
                top = [below + known.get(at, 0.0) for below, at in zip(base, grid)]
                axes.fill_between(grid, base, top, color=color, alpha=0.35, linewidth=0)
                axes.plot(grid, top, color=color, linewidth=1.1)
                base = top
            else:
                axes.plot(times, values, color=color, linewidth=1.1)
                axes.fill_between(times, values, color=color, alpha=0.06, linewidth=0)
        axes.set_ylim(bottom=0)
        if axes.get_ylim()[1] <= 0.06 and not any(any(values) for _, _, values in alive):
            axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
        self.legend(axes, [legend for legend, _, _ in alive])

    def legend(self, axes, names):
        shortened = names[:LEGEND_MAX] + (["…"] if len(names) > LEGEND_MAX else [])
        while sum(len(name) + 4 for name in shortened) > LEGEND_LETTERS and len(shortened) > 2:
            shortened = shortened[:-2] + ["…"]
        x = 0.0
        for number, name in enumerate(shortened):
            if name != "…":
                axes.plot([x, x + 0.018], [-0.245, -0.245], color=PALETTE[number % len(PALETTE)], linewidth=2,
                          transform=axes.transAxes, clip_on=False)
            axes.text(x + 0.026, -0.245, name, color=FAINT, fontsize=7, va="center", transform=axes.transAxes)
            x += 0.045 + 0.0148 * len(name)

    def heatmap(self, axes, panel):
        buckets = sorted((float(legend.replace("+Inf", "inf")), times, values)
                         for legend, times, values in self.series(panel["targets"][0]))
        times = buckets[-1][1]
        rows, below = [], [0.0] * len(times)
        for _, moments, values in buckets:
            known = dict(zip(moments, values))
            now = [known.get(at, 0.0) for at in times]
            rows.append([max(0.0, value - under) for value, under in zip(now, below)])
            below = now
        used = [number for number, row in enumerate(rows) if any(row) and math.isfinite(buckets[number][0])]
        low, high = max(used[0] - 1, 0), min(used[-1] + 1, len(rows) - 2)
        image = [[value or math.nan for value in row] for row in rows[low:high + 1]]
        width = times[1] - times[0]
        axes.pcolormesh([*times, times[-1] + width], range(len(image) + 1), image, cmap=HEAT, norm=PowerNorm(0.5),
                        edgecolors="face", linewidth=0.2, antialiased=False)
        labels = [shown(buckets[number][0], "s") for number in range(low, high + 1)]
        every = max(1, len(labels) // 6)
        axes.set_yticks([number + 1 for number in range(0, len(labels), every)], labels[::every])

    def annotations(self, axes, dashboard):
        for annotation in dashboard["annotations"]["list"]:
            color = NAMED[annotation["iconColor"]]
            expression = self.expression(annotation["expr"])
            for one in system.query_range(self.prometheus, expression, self.begin, self.end, self.step):
                axes.axvline(float(one["values"][0][0]) / 86_400, color=color, linewidth=0.9, linestyle=(0, (3, 3)), alpha=0.9)

    def panel(self, figure, box, panel, dashboard):
        left, bottom, width, height = box
        frame = figure.add_axes((left, bottom, width, height), facecolor=PANEL)
        frame.set(xticks=[], yticks=[])
        for spine in frame.spines.values():
            spine.set_color(EDGE)
        tall = height * figure.get_figheight() * 100
        wide = width * figure.get_figwidth() * 100
        figure.text(left + width * 9 / wide, bottom + height * (1 - 15 / tall), panel["title"], color=TEXT, fontsize=9,
                    va="center", weight="medium")
        if panel["type"] == "stat":
            self.stat(figure.add_axes(box, frameon=False), panel)
            return
        inner = (left + width * 52 / wide, bottom + height * 47 / tall, width * (1 - 64 / wide), height * (1 - 80 / tall))
        axes = figure.add_axes(inner, facecolor=PANEL)
        axes.tick_params(colors=FAINT, labelsize=7, length=0)
        axes.grid(color=EDGE, linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_visible(False)
        (self.heatmap if panel["type"] == "heatmap" else self.lines)(axes, panel)
        axes.set_xlim(self.begin / 86_400, self.end / 86_400)
        axes.xaxis.set_major_locator(dates.MinuteLocator())
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
        if panel["type"] != "heatmap":
            self.annotations(axes, dashboard)

    def draw(self, dashboard, rows, file):
        """The panels below these rows, in their order."""
        chosen, row = [], None
        for panel in dashboard["panels"]:
            if panel["type"] == "row":
                row = panel["title"]
                if row in rows:
                    chosen.append((panel, []))
            elif row in rows:
                chosen[-1][1].append(panel)
        lines = sum(1 + max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in ps) - min(p["gridPos"]["y"] for p in ps)
                    for _, ps in chosen)
        wide, tall = 24 * COLUMN + 2 * GAP, lines * LINE + 46
        figure = plt.figure(figsize=(wide / 100, tall / 100), dpi=100, facecolor=BACKGROUND)
        figure.text(14 / wide, 1 - 23 / tall, dashboard["title"], color=TEXT, fontsize=13, va="center", weight="medium")
        stamp = time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.begin)) + time.strftime(" to %H:%M UTC", time.gmtime(self.end))
        figure.text(1 - 14 / wide, 1 - 23 / tall, stamp, color=FAINT, fontsize=9, va="center", ha="right")
        y = 46
        for row, panels in chosen:
            figure.text(14 / wide, 1 - (y + LINE / 2) / tall, f"▾ {row['title']}", color=TEXT, fontsize=10, va="center")
            y += LINE
            first = min(panel["gridPos"]["y"] for panel in panels)
            for panel in panels:
                grid = panel["gridPos"]
                x = GAP + grid["x"] * COLUMN
                top = y + (grid["y"] - first) * LINE
                width, height = grid["w"] * COLUMN - GAP / 2, grid["h"] * LINE - GAP / 2
                self.panel(figure, (x / wide, 1 - (top + height) / tall, width / wide, height / tall), panel, dashboard)
            y += (max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels) - first) * LINE
        save(figure, file)
