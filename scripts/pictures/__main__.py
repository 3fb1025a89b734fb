"""Makes the pictures of the README: `pictures FOLDER [dashboard] [latency]`, where FOLDER holds burble and burble-bench."""

import itertools
import json
import pathlib
import sys
import time

import dashboard
import latency
import system

ROOT = pathlib.Path(__file__).parents[2]
IMAGES = ROOT / "docs/images"

# What the picture of the dashboard shows, of all that is on it.
ROWS = ["At a glance", "Rate", "Duration", "Sessions", "Catching up"]
# The first seconds are of clients that sign up.
WARM_UP_SECONDS, SHOWN_SECONDS = 30, 240

ROOMS, MEMBERS = 100, 10
RATES = [1_000, 4_000]
RATE_SECONDS = 10


def under_load(running, one, two):
    """Messages on both nodes and visits to them all the time; some who come back, and a node that restarts."""
    seeds = itertools.count(1)

    def load(node, scenario, *arguments):
        return running.load(node.url, scenario, *arguments, "--seed", next(seeds))

    def rooms(node, rate):
        return load(node, "rooms", "--rooms", 40, "--members", 8, "--rate", rate, "--seconds", 600)

    begun = time.monotonic()
    rooms(one, 120)
    rooms(two, 80)
    happenings = [
        (95, lambda: load(one, "resume", "--sessions", 300, "--missed", 40, "--channels", 20)),
        (150, two.stop),
        (156, two.start),
        (160, lambda: rooms(two, 160)),
        (215, lambda: load(two, "resume", "--sessions", 200, "--missed", 60, "--channels", 20)),
    ]
    for second in range(WARM_UP_SECONDS + SHOWN_SECONDS):
        time.sleep(max(0.0, begun + second - time.monotonic()))
        while happenings and happenings[0][0] <= second:
            happenings.pop(0)[1]()
        if second % 3 == 0:
            load(one if second % 2 or two.process.poll() is not None else two, "cases", "-r", 40 + second % 30, "-w", 1)


def draw_dashboard(running):
    redis, database = running.redis(), running.postgres()
    shared = {
        "SERVER_DB": database, "PUBSUB_SERVER_HOST": "127.0.0.1", "PUBSUB_SERVER_PORT": str(redis),
        "PUBSUB_DURABILITY": "fsync", "SERVER_DRAIN_SECONDS": "5",
    }
    one, two = system.Node(running, "chat-1", **shared), system.Node(running, "chat-2", **shared)
    prometheus = running.prometheus([one, two])
    begin = time.time() + WARM_UP_SECONDS
    under_load(running, one, two)
    painter = dashboard.Painter(prometheus, begin, begin + SHOWN_SECONDS)
    model = json.loads((ROOT / "grafana/dashboards/service.json").read_text())
    painter.draw(model, ROWS, IMAGES / "dashboard.png")


def draw_latency(running):
    node = system.Node(running, "alone")
    measured = {}
    for rate in RATES:
        found = running.bench(node.url, "rooms", "--rooms", ROOMS, "--members", MEMBERS, "--rate", rate,
                              "--seconds", RATE_SECONDS)
        report = found["reports"][0]
        if report["errors"]:
            raise SystemExit(f"{rate} a second: {report['errors']}")
        measured[rate] = dict(report["latencies"])["delivery"]
        print(rate, measured[rate])
    machine = f"{found['machine']['cores']} cores, {found['machine']['cpu']}, shared with the load tool"
    latency.draw(measured, {"rooms": ROOMS, "members": MEMBERS}, machine, IMAGES / "latency.png")


PICTURES = {"dashboard": draw_dashboard, "latency": draw_latency}


def main():
    binaries, wanted = sys.argv[1], sys.argv[2:] or list(PICTURES)
    if unknown := set(wanted) - set(PICTURES):
        raise SystemExit(f"there is no picture {', '.join(unknown)}; there are {', '.join(PICTURES)}")
    IMAGES.mkdir(exist_ok=True)
    for name in wanted:
        with system.System(binaries) as running:
            PICTURES[name](running)


main()
