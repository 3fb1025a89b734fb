"""Has schemathesis look for requests that a node answers otherwise than its OpenAPI document says. What is given beside
the binary goes to `schemathesis run`. scripts/schemathesis.sh calls it."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from openapi_spec_validator import validate

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "conformance"))

from paths import burble  # noqa: E402

# Nothing is refused for being too much: refusals would hide what is to be found.
SETTINGS = {
    "LIMIT_USER_COMMANDS_PER_SECOND": "0",
    "LIMIT_SIGN_IN_FAILURES": "1000000",
    "LIMIT_SIGN_IN_FAILURES_PER_NAME": "1000000",
    "LIMIT_SIGN_IN_FAILURES_PER_ADDRESS": "1000000",
    "LIMIT_SIGN_UPS_PER_ADDRESS": "1000000",
}
SEED = "1"


def sign_up(url, name):
    """An access token of a new user's."""
    body = json.dumps({"name": name, "password": "correct horse"}).encode()
    request = urllib.request.Request(f"{url}/signup", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["access_token"]


def main():
    binary, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="burble-schemathesis") as folder:
        with burble(binary, Path(folder), **SETTINGS) as node:
            url = f"http://127.0.0.1:{node.port}"
            with urllib.request.urlopen(f"{url}/openapi.json") as answer:
                validate(json.load(answer))
            env = os.environ | {"TOKEN": sign_up(url, "ann"), "TOKEN_TO_REVOKE": sign_up(url, "bob")}
            env |= {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
            schemathesis = [Path(sys.executable).parent / "schemathesis", "--config-file", HERE / "schemathesis.toml"]
            run = [*schemathesis, "run", f"{url}/openapi.json", "--seed", SEED, *options]
            sys.exit(subprocess.run(run, env=env, cwd=folder).returncode)


if __name__ == "__main__":
    main()
