"""The ways to a Burble: directly, and through each proxy with the configuration in deploy/, but without its TLS."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20

Node = namedtuple("Node", "process port ops_port")
# The files in deploy/, what differs here, and the command.
Kind = namedtuple("Kind", "files swaps command")
# Of every proxy: both nodes are the one that runs.
EVERYWHERE = {"10.0.0.11:8080": "127.0.0.1:NODE", "10.0.0.12:8080": "127.0.0.1:NODE"}
PROXIES = {
    "nginx": Kind(
        ["nginx.conf"],
        {
            "user www-data;": "daemon off; pid nginx.pid;",
            "http {": "http { client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; "
            "uwsgi_temp_path uwsgi; scgi_temp_path scgi;",
            "/var/log/nginx/": "FOLDER/",
            "listen 80;": "listen 127.0.0.1:SPARE;",
            "listen [::]:80;": "",
            "listen 443 ssl;": "listen 127.0.0.1:LISTEN;",
            "listen [::]:443 ssl;": "",
            "ssl_certificate     /etc/ssl/burble/chat.pem;": "",
            "ssl_certificate_key /etc/ssl/burble/chat.key;": "",
        },
        "nginx -p FOLDER -e stderr -c nginx.conf",
    ),
    "haproxy": Kind(
        ["haproxy.cfg"],
        {
            "bind :80,:::80 v6only": "bind 127.0.0.1:SPARE",
            "bind :443,:::443 v6only ssl crt /etc/ssl/burble/chat-and-key.pem alpn http/1.1": "bind 127.0.0.1:LISTEN",
            "9100": "OPS",
            "/run/haproxy/": "FOLDER/",
            "user haproxy": "",
            "group haproxy": "",
            "maxconn 30000": "maxconn 400",
        },
        "haproxy -db -f FOLDER/haproxy.cfg",
    ),
    "caddy": Kind(
        ["Caddyfile"],
        {
            "http://chat.example.org {": "http://127.0.0.1:SPARE {",
            "\nchat.example.org {": "\nhttp://127.0.0.1:LISTEN {",
            "tls /etc/ssl/burble/chat.pem /etc/ssl/burble/chat.key": "",
            "9100": "OPS",
        },
        "BIN/caddy run --adapter caddyfile --config FOLDER/Caddyfile",
    ),
    "traefik": Kind(
        ["traefik/traefik.yml", "traefik/burble.yml"],
        {
            '":80"': "127.0.0.1:SPARE",
            '":443"': "127.0.0.1:LISTEN",
            "/etc/traefik/": "FOLDER/",
            "chat.example.org": "127.0.0.1",
            "      tls: {}\n": "",
            "9100": "OPS",
        },
        "BIN/traefik --configFile=FOLDER/traefik.yml",
    ),
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
    """A proxy before the node, as in deploy/ but for what differs here; its port."""
    kind, port, folder = PROXIES[name], free_port(), folder / name
    folder.mkdir(mode=0o711)
    words = {"FOLDER": folder, "NODE": node.port, "OPS": node.ops_port, "LISTEN": port, "SPARE": free_port()}
    texts = {file: (ROOT / "deploy" / file).read_text() for file in kind.files}
    for theirs, ours in {**EVERYWHERE, **kind.swaps}.items():
        if not any(theirs in text for text in texts.values()):
            raise SystemExit(f"{kind.files} has no {theirs.strip()!r}")
        texts = {file: text.replace(theirs, filled(ours, words)) for file, text in texts.items()}
    for file, text in texts.items():
        (folder / Path(file).name).write_text(text)
    command = filled(kind.command, {**words, "BIN": programs()}).split()
    if not shutil.which(command[0]):
        raise SystemExit(f"{name} is not installed: scripts/need.sh {name}")
    # Caddy keeps its state below HOME, and listens for orders.
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "CADDY_ADMIN": f"127.0.0.1:{free_port()}"}
    with running(name, command, env, folder) as (process, log):
        wait(process, log, lambda: listens(port))
        yield port


def filled(text, words):
    for word, value in words.items():
        text = text.replace(word, str(value))
    return text


def programs():
    """The folder of those that Debian does not have."""
    return subprocess.check_output([ROOT / "scripts/proxies-bin.sh"], text=True).strip()


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
