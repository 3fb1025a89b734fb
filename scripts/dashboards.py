#!/usr/bin/env python3
"""Writes the dashboards below grafana/dashboards. With --check: fails where one is not what this file says.

In an expression {@} stands for the jobs and nodes that are chosen, and [R] for the interval of rates.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent.parent / "grafana/dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
NODES = 'job=~"$job", instance=~"$instance"'
WIDTH = 24

# What is the server's fault, among all that it was asked; the rules of deploy/prometheus count alike.
FAILED = (
    'sum(rate(burble_command_errors_total{@, code=~"internal|unavailable|outcome_unknown"}[%s]))'
    ' + sum(rate(burble_http_request_seconds_count{@, status_class="5xx"}[%s]))'
)
ASKED = "sum(rate(burble_command_seconds_count{@}[%s])) + sum(rate(burble_http_request_seconds_count{@}[%s]))"
OBJECTIVE = 0.999


def failed_ratio(over):
    return f"({FAILED % (over, over)}) / ({ASKED % (over, over)})"


def per_second(name, *by, match=""):
    match = f", {match}" if match else ""
    return f"sum by ({', '.join(by or ['instance'])}) (rate({name}{{@{match}}}[R]))"


def total(name):
    return f"sum(rate({name}{{@}}[R]))"


def gauge(name, how="max"):
    return f"{how} by (instance) ({name}{{@}})"


def quantile(q, name, *by, match=""):
    match = f", {match}" if match else ""
    return f"histogram_quantile({q}, sum by ({', '.join(['le', *by])}) (rate({name}_bucket{{@{match}}}[R])))"


def quantiles(name):
    return [(quantile(q, name), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]


def target(number, expr, legend, **more):
    expr = expr.replace("{@", "{" + NODES).replace("[R]", "[$__rate_interval]")
    return {
        "refId": chr(ord("A") + number), "datasource": SOURCE, "editorMode": "code", "expr": expr,
        "legendFormat": legend, "format": "time_series", "range": True, "instant": False, **more,
    }


def panel(kind, title, about, unit, queries, width, height, options, custom=None, **more):
    queries = [(queries, "{{instance}}")] if isinstance(queries, str) else queries
    instant = {"range": False, "instant": True} if kind == "stat" else {}
    instant = {"format": "heatmap"} if kind == "heatmap" else instant
    defaults = {"unit": unit, **more}
    if custom is not None:
        defaults["custom"] = custom
    return {
        "type": kind, "title": title, "description": about, "datasource": SOURCE,
        "gridPos": {"w": width, "h": height}, "options": options,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [target(number, *query, **instant) for number, query in enumerate(queries)],
    }


def lines(title, about, unit, queries, width=8, stack=False, **more):
    custom = {
        "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 20 if stack else 5,
        "showPoints": "auto", "spanNulls": False, "axisPlacement": "auto",
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": True},
    }
    more = {"min": 0, "color": {"mode": "palette-classic"}, **more}
    return panel("timeseries", title, about, unit, queries, width, 8, options, custom, **more)


def heatmap(title, about, name, width=8):
    options = {
        "calculate": False, "cellGap": 1, "showValue": "never",
        "color": {"mode": "scheme", "scheme": "Turbo", "scale": "exponential", "exponent": 0.5, "steps": 64,
                  "fill": "dark-orange", "reverse": False},
        "yAxis": {"axisPlacement": "left", "unit": "s"},
        "cellValues": {"unit": "cps"}, "rowsFrame": {"layout": "auto"}, "exemplars": {"color": "orange"},
        "filterValues": {"le": 1e-9}, "legend": {"show": True}, "tooltip": {"mode": "single", "yHistogram": True},
    }
    return panel("heatmap", title, about, "s", [(f"sum by (le) (rate({name}_bucket{{@}}[R]))", "{{le}}")], width, 8, options)


def stat(title, about, unit, expr, steps, width=4, **more):
    """The first step is the colour of the lowest values, each further one begins at its number."""
    first, *others = steps
    thresholds = [{"color": first, "value": None}] + [{"color": color, "value": at} for at, color in others]
    options = {
        "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "wideLayout": True,
    }
    thresholds = {"mode": "absolute", "steps": thresholds}
    return panel("stat", title, about, unit, [(expr, "")], width, 4, options, thresholds=thresholds, **more)


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "gridPos": {"w": WIDTH, "h": 1}, "panels": []}


SERVICE = [
    row("At a glance"),
    stat("Availability", "The part of all commands and requests that did not fail by a fault of the server, over the"
         " time that is shown. The objective is 99.9 %.", "percentunit", f"1 - {failed_ratio('$__range')}",
         ["red", (0.99, "orange"), (OBJECTIVE, "green")], decimals=3),
    stat("Error budget left", "What is left of the 0.1 % that may fail, over the time that is shown. Below 0 the"
         " objective is missed.", "percentunit", f"1 - {failed_ratio('$__range')} / {1 - OBJECTIVE:.3f}",
         ["red", (0, "orange"), (0.25, "green")], decimals=1),
    stat("Delivered within 250 ms", "The part of all messages that was written to a socket within 250 ms of being in the"
         " log. The objective is 99 %.", "percentunit",
         'sum(rate(burble_delivery_seconds_bucket{@, le="0.25"}[$__range])) / sum(rate(burble_delivery_seconds_count{@}[$__range]))',
         ["red", (0.99, "green")], decimals=2),
    stat("Open sessions", "All that are open now.", "short", "sum(burble_sessions_open{@})", ["blue"]),
    stat("Messages", "Messages put into the log in a second.", "cps", total("burble_messages_appended_total"), ["blue"]),
    stat("Nodes", "Nodes that Prometheus reaches.", "none", "count(burble_build_info{@})", ["red", (1, "green")]),
    row("Rate"),
    lines("Commands", "Commands answered, by kind.", "cps", [(per_second("burble_command_seconds_count", "op"), "{{op}}")]),
    lines("Requests", "HTTP requests answered, by route.", "reqps",
          [(per_second("burble_http_request_seconds_count", "route"), "{{route}}")]),
    lines("Messages", "Put into the log; found there under their cid, since a client repeated them; and written to"
          " sockets, once for each.", "cps",
          [(total("burble_messages_appended_total"), "appended"), (total("burble_messages_duplicate_total"), "repeated"),
           (total("burble_deliveries_total"), "delivered")]),
    row("Errors"),
    lines("Failures", "The part of commands and requests that failed by a fault of the server. The objective is below"
          " 0.1 %.", "percentunit", [(failed_ratio("$__rate_interval"), "failed")]),
    lines("Command errors", "Commands answered by an error, by its code. internal, unavailable and outcome_unknown are"
          " faults of the server.", "cps", [(per_second("burble_command_errors_total", "code"), "{{code}}")]),
    lines("Requests by status", "HTTP answers by class. /ws answers 1xx.", "reqps",
          [(per_second("burble_http_request_seconds_count", "status_class"), "{{status_class}}")]),
    row("Duration"),
    heatmap("Delivery", "From the append of a message, by Redis's clock, to its write to a socket.", "burble_delivery_seconds"),
    lines("Delivery, percentiles", "The same; the objective is 250 ms for 99 %.", "s", quantiles("burble_delivery_seconds")),
    lines("Commands, p99", "From reading a command to its answer, by kind.", "s",
          [(quantile(0.99, "burble_command_seconds", "op"), "{{op}}")]),
    heatmap("Establishment", "From the upgrade request to welcome.", "burble_session_establishment_seconds"),
    lines("Establishment, percentiles", "The same.", "s", quantiles("burble_session_establishment_seconds")),
    lines("Requests, p99", "From an HTTP request to its answer, by route.", "s",
          [(quantile(0.99, "burble_http_request_seconds", "route"), "{{route}}")]),
    row("Sessions"),
    lines("Open", "Sessions by node. A step down that the others take over is a node that stops.", "short",
          gauge("burble_sessions_open", "sum"), stack=True),
    lines("Opened", "Sessions opened in a second, by node. A peak on all nodes is everybody coming back.", "cps",
          per_second("burble_sessions_opened_total")),
    lines("Closed by code", "1000 and 1001 are clients that leave, 1012 is a node that stops, 1013 one that is full, 4003 a client"
          " that was silent, 4008 one that floods, gone one that said no goodbye.", "cps",
          [(per_second("burble_sessions_closed_total", "code"), "{{code}}")]),
    row("Catching up"),
    lines("Replays", "Joins that replayed what was missed, from memory or from the log.", "cps",
          [(per_second("burble_replays_total", "source"), "{{source}}")], 6),
    lines("Waiting", "Sessions that wait for their turn to be given what they missed.", "short",
          gauge("burble_replays_waiting", "sum"), 6),
    lines("Gaps", "Gaps that sessions were told of in a minute, by reason. epoch_changed and rolled_back: Redis lost"
          " entries.", "short", [(f"60 * {per_second('burble_gaps_total', 'reason')}", "{{reason}}")], 6),
    lines("Typing notices dropped", "Not sent to sessions that were behind.", "cps",
          per_second("burble_typing_dropped_total"), 6),
]

NODE = [
    row("Nodes"),
    lines("Version", "1 for each version that runs. Two of them for long: a rollout that got stuck.", "none",
          [("count by (version) (burble_build_info{@})", "{{version}}")], 6),
    lines("Up for", "Since the process began.", "s",
          [("time() - max by (instance) (process_start_time_seconds{@})", "{{instance}}")], 6),
    lines("Draining", "1 from the moment the node is told to stop.", "none", gauge("burble_draining"), 6),
    lines("Sessions", "Open sessions by node.", "short", gauge("burble_sessions_open", "sum"), 6),
    row("Process"),
    lines("CPU", "Cores in use.", "none", [("sum by (instance) (rate(process_cpu_seconds_total{@}[R]))", "{{instance}}")], 6),
    lines("Memory", "Resident, and for each session that is open.", "bytes",
          [(gauge("process_resident_memory_bytes"), "{{instance}}"),
           ("max by (instance) (process_resident_memory_bytes{@}) / max by (instance) (clamp_min(burble_sessions_open{@}, 1))",
            "{{instance}} a session")], 6),
    lines("Descriptors", "Open files and sockets, against their limit.", "percentunit",
          [("max by (instance) (process_open_fds{@} / process_max_fds{@})", "{{instance}}")], 6, max=1),
    lines("Open descriptors", "Open files and sockets.", "short", gauge("process_open_fds"), 6),
    lines("Threads", "Of the operating system.", "short", gauge("process_threads"), 6),
    lines("Virtual memory", "Reserved, and what may be.", "bytes",
          [(gauge("process_virtual_memory_bytes"), "{{instance}}"),
           (gauge("process_virtual_memory_max_bytes"), "{{instance}} may be")], 6),
    row("Runtime"),
    lines("Workers busy", "The part of their time in which the workers had work. Near 1 everything waits.", "percentunit",
          gauge("burble_tokio_busy_ratio"), 6, max=1),
    lines("Workers", "Threads on which all sessions run.", "short", gauge("burble_tokio_workers"), 6),
    lines("Tasks", "Tasks that live: one for each socket, and a few.", "short", gauge("burble_tokio_tasks"), 6),
    lines("Tasks in the queue", "Tasks that wait in the queue that all workers share.", "short", gauge("burble_tokio_queue"), 6),
    row("Rings"),
    lines("Rooms", "Channels with a listener on the node.", "short", gauge("burble_rooms"), 6),
    lines("Bytes in rings", "What all rings hold.", "bytes", gauge("burble_ring_bytes"), 6),
    lines("Reads served by rings", "The others went to the log.", "percentunit",
          [(f"{per_second('burble_ring_hits_total')} / ({per_second('burble_ring_hits_total')}"
            f" + {per_second('burble_ring_misses_total')})", "{{instance}}")], 6, max=1),
    lines("Memberships served by the cache", "The others went to the database.", "percentunit",
          [(f"{per_second('burble_membership_cache_hits_total')} / ({per_second('burble_membership_cache_hits_total')}"
            f" + {per_second('burble_membership_cache_misses_total')})", "{{instance}}")], 6, max=1),
    row("Password pool"),
    lines("Threads busy", "The part of their time in which the threads hashed.", "percentunit",
          [(f"{per_second('burble_password_seconds_sum')} / {gauge('burble_password_threads')}", "{{instance}}")], max=1),
    lines("Waiting", "Sign-ins and sign-ups that wait for a thread.", "short", gauge("burble_password_queue")),
    lines("One hash", "Without the wait.", "s", quantiles("burble_password_seconds")),
]

LOG = [
    row("Appending"),
    heatmap("Append", "From queueing a message to its answer, at the durability that is set.", "burble_append_seconds", 6),
    lines("Append, percentiles", "The same.", "s", quantiles("burble_append_seconds"), 6),
    lines("Failures", "Messages and notices that were not acknowledged. unavailable was not written; of outcome_unknown"
          " nobody knows.", "cps", [(per_second("burble_append_failures_total", "kind"), "{{kind}}")], 6),
    lines("Batches", "Messages and notices that one call of the script carried.", "short",
          [(f"{total('burble_append_batch_messages_sum')} / {total('burble_append_batch_messages_count')}", "mean"),
           (quantile(0.95, "burble_append_batch_messages"), "p95")], 6),
    row("Feeds"),
    lines("Feed lag, p99", "How old the oldest entry of a read was, by Redis's clock.", "s",
          [(quantile(0.99, "burble_feed_lag_seconds", "instance"), "{{instance}}")], 6),
    lines("Not read yet", "Entries that a node has not read, in the feed where it is furthest behind.", "short",
          gauge("burble_feed_unread_entries"), 6),
    lines("Longest feed", "Against the most entries that a feed keeps. At 1 it keeps less than PUBSUB_FEED_SECONDS.",
          "percentunit", [("max by (instance) (burble_feed_entries{@} / burble_feed_entries_max{@})", "{{instance}}")], 6),
    lines("Entries read", "Entries read from the feeds.", "cps", per_second("burble_feed_entries_read_total"), 6),
    lines("Reconnects", "Connections to the feeds made anew, in a minute.", "short",
          [(f"60 * {per_second('burble_feed_reconnects_total')}", "{{instance}}")], 6),
    lines("Missed parts", "After each, all that it concerns was read anew; in a minute.", "short",
          [(f"60 * {per_second('burble_feed_refills_total')}", "{{instance}}")], 6),
    lines("Pages", "Pages of history read from Redis, and those that were at hand or shared with a read under way.", "cps",
          [(total("burble_page_reads_total"), "read"), (total("burble_page_hits_total"), "shared")], 6),
    lines("Messages", "Messages put into the log, by node.", "cps", per_second("burble_messages_appended_total"), 6),
    row("Redis"),
    lines("Feeds flow", "1 while an entry through each feed comes back in time.", "none", gauge("burble_redis_up", "min"), 6),
    lines("Writes go well", "1 while the last write, rewrite and snapshot of Redis went well.", "none",
          gauge("burble_redis_writes_ok", "min"), 6),
    lines("Memory", "What Redis uses, and may use; on a Cluster, of the primary that has the least left.", "bytes",
          [("max(burble_redis_memory_used_bytes{@})", "used"), ("max(burble_redis_memory_max_bytes{@})", "may be used")], 6),
    lines("Starts of the embedded Redis", "Times that it was started again, in an hour.", "short",
          [("sum by (instance) (increase(burble_embedded_redis_restarts_total{@}[1h]))", "{{instance}}")], 6),
    row("Database"),
    lines("Answers", "1 while the database answers within a second.", "none", gauge("burble_database_up", "min")),
    lines("Ping, p99", "A question that needs no table, with the wait for a connection.", "s",
          [(quantile(0.99, "burble_database_ping_seconds", "instance"), "{{instance}}")]),
    lines("Connections", "In use and idle. All in use for long: what is asked waits.", "short",
          [("sum by (instance, state) (burble_database_connections{@})", "{{instance}} {{state}}")]),
]

REFUSED_CODES = "unauthenticated|token_expired|bad_credentials|forbidden|origin_denied|rate_limited|too_many_joins|too_many_sessions"
REFUSED = 'result="refused"'
ACCOUNT_ROUTES = 'route=~"/signup|/login|/refresh|/logout|/me/password"'
SECURITY = [
    row("Sign-ins"),
    lines("Sign-ins", "Attempts, by what was shown and whether it was right.", "cps",
          [(per_second("burble_sign_ins_total", "method", "result"), "{{method}} {{result}}")]),
    lines("Refused", "The part of attempts that was refused, by method. A jump of login: somebody guesses, or a client is"
          " wrong.", "percentunit",
          [(f"{per_second('burble_sign_ins_total', 'method', match=REFUSED)} / {per_second('burble_sign_ins_total', 'method')}",
            "{{method}}")], max=1),
    lines("Account requests", "Requests about accounts that were refused, by route.", "reqps",
          [(per_second("burble_http_request_seconds_count", "route", match=f'{ACCOUNT_ROUTES}, status_class="4xx"'), "{{route}}")]),
    row("Refusals"),
    lines("By limit or rule", "What was turned away, by the limit or rule that it met; each limit is a setting.", "cps",
          [(per_second("burble_refused_total", "reason"), "{{reason}}")]),
    lines("By error", "Commands that were refused for who sent them, or how many.", "cps",
          [(per_second("burble_command_errors_total", "code", match=f'code=~"{REFUSED_CODES}"'), "{{code}}")]),
    lines("Closed for cause", "Sessions that ended since they broke the protocol (1002, 1007, 1009, 4400, 4406), were not"
          " or no longer signed in (4401, 4403), were silent (4003) or flooded (4008).", "cps",
          [(per_second("burble_sessions_closed_total", "code", match='code=~"1002|1007|1009|4.+"'), "{{code}}")]),
    row("Room that is left"),
    lines("Waiting for a password thread", "Sign-ins and sign-ups. LIMIT_PASSWORD_QUEUE is the most.", "short",
          gauge("burble_password_queue")),
    lines("Descriptors", "Open files and sockets, against their limit.", "percentunit",
          [("max by (instance) (process_open_fds{@} / process_max_fds{@})", "{{instance}}")], max=1),
    lines("Upgrades", "Answers to upgrade requests by class: what is not 1xx was refused.", "reqps",
          [(per_second("burble_http_request_seconds_count", "status_class", match='route="/ws"'), "{{status_class}}")]),
]

DASHBOARDS = {
    "service": ("Burble: service", "What Burble does for its clients, how fast, and how often it fails.", SERVICE),
    "node": ("Burble: node", "What each node uses, and what is left of it.", NODE),
    "log": ("Burble: log and storage", "The log, the feeds, Redis and the database.", LOG),
    "security": ("Burble: security", "Who signs in, and who is turned away.", SECURITY),
}


def variable(name, label, query):
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE,
        "query": {"qryType": 1, "query": query, "refId": f"variable-{name}"}, "multi": True, "includeAll": True,
        "allValue": ".+", "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, "options": [],
        "hide": 0, "refresh": 2, "regex": "", "skipUrlSync": False, "sort": 1,
    }


def annotation(name, color, expr, title):
    return {
        "name": name, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": color,
        "expr": expr.replace("{@", "{" + NODES), "titleFormat": title, "textFormat": "{{instance}}", "step": "15s",
    }


def placed(panels):
    """From left to right, a new line where the width does not do or a row begins."""
    x = y = height = 0
    for number, it in enumerate(panels, 1):
        grid = it["gridPos"]
        if x + grid["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        yield {"id": number, **it, "gridPos": {"x": x, "y": y, **grid}}
        x, height = x + grid["w"], max(height, grid["h"])


def dashboard(name):
    title, about, panels = DASHBOARDS[name]
    datasource = {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {},
        "options": [], "hide": 0, "includeAll": False, "multi": False, "refresh": 1, "regex": "", "skipUrlSync": False,
    }
    links = {
        "title": "Burble", "type": "dashboards", "tags": ["burble"], "asDropdown": False, "icon": "external link",
        "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": "",
    }
    alerts = 'ALERTS{alertname=~"Burble.+", alertstate="firing"}'
    return {
        "uid": f"burble-{name}", "title": title, "description": about, "tags": ["burble"], "schemaVersion": 39,
        "version": 1, "editable": True, "fiscalYearStartMonth": 0, "graphTooltip": 1, "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"}, "timezone": "browser", "weekStart": "", "links": [links],
        "templating": {"list": [
            datasource,
            variable("job", "Job", "label_values(burble_build_info, job)"),
            variable("instance", "Node", 'label_values(burble_build_info{job=~"$job"}, instance)'),
        ]},
        "annotations": {"list": [
            annotation("Starts", "blue", "changes(process_start_time_seconds{@}[1m]) > 0", "Started anew"),
            annotation("Drains", "orange", "burble_draining{@} == 1", "Told to stop"),
            annotation("Alerts", "red", alerts, "{{alertname}}"),
        ]},
        "panels": list(placed(panels)),
    }


def main():
    stale = []
    for name in DASHBOARDS:
        file, text = FOLDER / f"{name}.json", json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            stale.append(str(file))
    if stale:
        sys.exit(f"{', '.join(stale)}: not what scripts/dashboards.py says; run it")


if __name__ == "__main__":
    main()
