"""Two nodes on a Postgres and a Redis, watched by Prometheus: all real, on free ports, and gone with the program."""

import contextlib
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

SECRET = "a key for pictures alone, of more than 32 bytes"
SCRAPE_SECONDS = 2
# How long anything may take to be there.
PATIENCE_SECONDS = 60
# One machine is all of the clients, and a few users do the work of many.
UNLIMITED = [
    "LIMIT_CONNECTIONS", "LIMIT_CONNECTIONS_PER_ADDRESS", "LIMIT_SESSIONS_PER_USER", "LIMIT_UPGRADES",
    "LIMIT_SESSION_COMMANDS_PER_SECOND", "LIMIT_USER_COMMANDS_PER_SECOND", "LIMIT_USER_BYTES_PER_SECOND",
    "LIMIT_SIGN_UPS_PER_ADDRESS", "LIMIT_CONNECTIONS_UNSIGNED",
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def until(url):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return get(url)
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} does not answer")
        time.sleep(0.1)


class Node:
    """One that can be stopped and started, on the same ports."""

    def __init__(self, system, name, **settings):
        self.system, self.name, self.port, self.ops = system, name, free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings
        self.start()

    def start(self):
        data = self.system.folder / self.name
        settings = {
            "NODE_NAME": self.name, "SERVER_PORT": str(self.port), "OPS_PORT": str(self.ops), "DATA_DIR": str(data),
            "AUTH_SECRET": SECRET, "LOG_CONSOLE_LEVEL": "warn", **{limit: "0" for limit in UNLIMITED}, **self.settings,
        }
        self.process = self.system.run([self.system.binaries / "burble"], env=settings)
        until(f"http://127.0.0.1:{self.ops}/readyz")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class System:
    """What runs, and where it keeps its things."""

    def __init__(self, binaries):
        self.binaries = pathlib.Path(binaries)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="burble-pictures"))
        self.folder.chmod(0o755)
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, command, env=None, user=None):
        environment = {"PATH": os.environ["PATH"], **(env or {})}
        process = subprocess.Popen(command, cwd=self.folder, env=environment, user=user, stdout=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def bench(self, url, *arguments):
        """What the load tool found."""
        command = [self.binaries / "burble-bench", "--json", "--url", url, *map(str, arguments)]
        return json.loads(subprocess.run(command, capture_output=True, check=False).stdout)

    def load(self, url, *arguments):
        """The same beside all else."""
        return self.run([self.binaries / "burble-bench", "--json", "--url", url, *map(str, arguments)])

    def redis(self):
        port = free_port()
        folder = self.folder / f"redis-{port}"
        folder.mkdir()
        self.run(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
                  "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction",
                  "--stream-node-max-bytes", "1024", "--loglevel", "warning"])
        return port

    def postgres(self):
        port, data = free_port(), self.folder / "postgres"
        # It refuses to run as root.
        user = "postgres" if os.geteuid() == 0 else None
        data.mkdir()
        if user:
            os.chown(data, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        subprocess.run(["initdb", "-D", data, "-U", "burble", "--auth=trust", "--no-sync"], check=True, user=user,
                       cwd="/", stdout=subprocess.DEVNULL)
        self.run(["postgres", "-D", data, "-p", str(port), "-k", data, "-c", "listen_addresses=127.0.0.1",
                  "-c", "log_min_messages=fatal"], user=user)
        ready = ["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "burble", "-d", "postgres"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while subprocess.run(ready, check=False).returncode:
            if time.monotonic() > deadline:
                raise SystemExit("Postgres does not start")
            time.sleep(0.1)
        return f"postgres://burble@127.0.0.1:{port}/postgres"

    def prometheus(self, nodes):
        port, config = free_port(), self.folder / "prometheus.yml"
        targets = [{"targets": [f"127.0.0.1:{node.ops}"], "labels": {"instance": node.name}} for node in nodes]
        config.write_text(json.dumps({
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s"},
            "scrape_configs": [{"job_name": "burble", "static_configs": targets}],
        }))
        self.run(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder / 'tsdb'}",
                  f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"])
        until(f"http://127.0.0.1:{port}/-/ready")
        return f"http://127.0.0.1:{port}"


def query_range(prometheus, expression, begin, end, step):
    parameters = urllib.parse.urlencode({"query": expression, "start": begin, "end": end, "step": step})
    return json.loads(get(f"{prometheus}/api/v1/query_range?{parameters}"))["data"]["result"]


def query(prometheus, expression, at):
    parameters = urllib.parse.urlencode({"query": expression, "time": at})
    return json.loads(get(f"{prometheus}/api/v1/query?{parameters}"))["data"]["result"]
