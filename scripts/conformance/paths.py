"""The ways to a Burble: directly, and through each proxy with the configuration in deploy/."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PATIENCE_S = 20
# What nginx has around deploy/nginx.conf on a host.
NGINX = """daemon off; pid FOLDER/nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
    CONFIG
}
"""

Node = namedtuple("Node", "process port ops_port")
# The file in deploy/, the line in it that says where to listen, what is around it, and the command.
Kind = namedtuple("Kind", "file listen around command")
PROXIES = {
    "nginx": Kind("nginx.conf", "listen 80;", NGINX, "nginx -p FOLDER -e stderr -c CONFIG"),
    "haproxy": Kind("haproxy.cfg", "bind :80\n", "CONFIG", "haproxy -db -f CONFIG"),
    "caddy": Kind("Caddyfile", "\n:80 {", "CONFIG", "caddy run --adapter caddyfile --config CONFIG"),
}


@contextmanager
def burble(binary, folder, **settings):
    """A server on data of its own."""
    env = settings | {
        "PATH": os.environ["PATH"],
        "ENV": "development",
        "SERVER_PORT": "0",
        "OPS_PORT": "0",
        "DATA_DIR": str(folder / "data"),
        "AUTH_PASSWORD_ROUNDS": "1000",
        "SESSION_SIGN_IN_MS": "1000",
    }
    with running("burble", [binary, "serve"], env, folder) as (process, log):
        line = wait(process, log, lambda: re.search("Burble listens on .*", log.read_text()))
        port, ops_port = re.findall(r"http://[\d.]+:(\d+)", line[0])
        yield Node(process, port, ops_port)


@contextmanager
def proxy(name, node, folder):
    """A proxy before the node, as in deploy/ but for the ports; its port."""
    kind, port = PROXIES[name], free_port()
    text = (DEPLOY / kind.file).read_text()
    for theirs, ours in [("127.0.0.1:8080", f"127.0.0.1:{node.port}"), (kind.listen, kind.listen.replace("80", port))]:
        if theirs not in text:
            raise SystemExit(f"deploy/{kind.file} has no {theirs.strip()!r}")
        text = text.replace(theirs, ours)
    text = kind.around.replace("CONFIG", text.replace("9100", node.ops_port)).replace("FOLDER", str(folder))
    config = folder / kind.file
    config.write_text(text)
    command = kind.command.replace("CONFIG", str(config)).replace("FOLDER", str(folder)).split()
    if not shutil.which(command[0]):
        raise SystemExit(f"{name} is not installed: scripts/need.sh {name}")
    # Caddy keeps its state below HOME, and listens for orders.
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "CADDY_ADMIN": f"127.0.0.1:{free_port()}"}
    with running(name, command, env, folder) as (process, log):
        wait(process, log, lambda: listens(port))
        yield port


@contextmanager
def running(name, command, env, folder):
    """A process and its log; the process is gone when the `with` is over."""
    log = folder / f"{name}.log"
    with open(log, "w") as out:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=out, stderr=out)
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait(process, log, look):
    """What `look` finds: the programs give no other sign."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise SystemExit(f"{process.args[0]} did not come up:\n{log.read_text()}")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
