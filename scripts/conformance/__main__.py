"""Judges Burble's WebSocket by the cases of the Autobahn test suite, directly and through proxies, and looks whether
its close codes arrive. scripts/conformance.sh calls it with a binary that has the feature `conformance`."""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import kosoku
from codes import before, signed_in
from paths import PATIENCE_S, PROXIES, burble, proxy

# Compression, which Burble does not offer.
LEFT_OUT = ["12.*", "13.*"]
# The suite has 301 others. Fewer mean that something was not run.
CASES_MIN = 301
AT_ONCE = 4
RESTART = 1012
VERDICTS = ["OK", "NON-STRICT", "INFORMATIONAL"]


def cases(port):
    """The verdicts on all cases, and the failures in words."""
    run = kosoku.run_fuzzingclient(f"ws://127.0.0.1:{port}/echo", None, LEFT_OUT, AT_ONCE)

    async def results():
        try:
            return await run
        except kosoku.FailureError as failure:
            return failure.results

    found = asyncio.run(results())
    verdicts = Counter(case.behavior.value if case.passed else "FAILED" for case in found)
    failures = [
        f"case {case.case_id}: {case.behavior.value}, close {case.behavior_close.value}: {case.result_close}"
        for case in found
        if not case.passed
    ]
    if len(found) < CASES_MIN:
        failures.append(f"{len(found)} cases were run, not {CASES_MIN}")
    return verdicts, failures


def codes(port):
    found = [(what, due, came) for what, due, came in before(port)]
    return len(found), [f"{what}: {came} came, not {due}" for what, due, came in found if came != due]


def report(rows):
    columns = [*VERDICTS, "FAILED"]
    print(f"{'path':<9}{'cases':>6}" + "".join(f"{column:>15}" for column in [*columns, "close codes"]))
    for path, (verdicts, ends, wrong) in rows.items():
        cells = [*(verdicts[column] for column in columns), f"{ends - wrong} of {ends}"]
        print(f"{path:<9}{verdicts.total():>6}" + "".join(f"{cell:>15}" for cell in cells))


def main():
    parser = argparse.ArgumentParser(prog="scripts/conformance.sh", description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("paths", nargs="*", help="direct, " + ", ".join(PROXIES) + "; all where none is named")
    arguments = parser.parse_args()
    failures, rows = [], {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="burble-conformance")))
        node = stack.enter_context(burble(arguments.binary, folder))
        ports = {
            path: node.port if path == "direct" else stack.enter_context(proxy(path, node, folder))
            for path in arguments.paths or ["direct", *PROXIES]
        }
        for path, port in ports.items():
            verdicts, broken = cases(port)
            ends, wrong = codes(port)
            rows[path] = [verdicts, ends, len(wrong)]
            failures += [f"{path}: {failure}" for failure in broken + wrong]
        # The node stops under everybody at once.
        clients = {path: signed_in(port, f"user-{path}") for path, port in ports.items()}
        node.process.terminate()
        for path, client in clients.items():
            code = client.close_code()
            rows[path][1] += 1
            if code != RESTART:
                rows[path][2] += 1
                failures.append(f"{path}: the node stops: {code} came, not {RESTART}")
        # A second signal would leave its Redis behind.
        node.process.wait(PATIENCE_S)
    report(rows)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
