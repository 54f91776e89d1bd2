"""A Flask app that asks for money; it stands for any web app that a Nomad job runs as one bundled executable."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from importlib.metadata import version

from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

MAX_PORT = 65535
PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Pet Taxi</title>
  <style>
    body {{ max-width: 34rem; margin: 4rem auto; padding: 0 1rem; font: 1.1rem/1.5 system-ui, sans-serif; }}
    footer {{ color: #666; font-size: 0.9rem; }}
  </style>
</head>
<body>
  <h1>Pet Taxi</h1>
  <p>We need a $10M series B to write a blockchain-based pet taxi app.</p>
  <footer>app {version}</footer>
</body>
</html>
"""


def create_app() -> Flask:
    """Build the app: the page, and a health check for a Nomad service."""
    app = Flask(__name__)
    page = PAGE.format(version=version("app"))

    @app.get("/")
    def show_page() -> str:
        return page

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


class Handler(WSGIRequestHandler):
    """One request a connection, and a log line only where it failed, since health checks would fill the log."""

    protocol_version = "HTTP/1.0"
    timeout = 30

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Note the answer where it is an error of ours."""
        if str(code).startswith("5"):
            super().log_request(code, size)


class Server(ThreadedWSGIServer):
    """A thread a request; closing the server waits for those that run."""

    daemon_threads = False


def parse_port() -> int:
    """Take the port that Nomad gave to the label `http`, else PORT, else 8080."""
    text = os.environ.get("NOMAD_PORT_http") or os.environ.get("PORT") or "8080"  # noqa: SIM112 # as Nomad spells it
    if not text.isascii() or not text.isdigit() or int(text) > MAX_PORT:
        sys.exit(f"app: '{text[:20]}' is not a port: set NOMAD_PORT_http or PORT to a number from 0 to {MAX_PORT}")
    return int(text)


def serve(host: str, port: int) -> None:
    """Answer until SIGTERM or SIGINT; requests that run then are finished."""
    server = Server(host, port, create_app(), Handler)

    def stop(_signal: int, _frame: object) -> None:
        threading.Thread(target=server.shutdown).start()  # it waits for serve_forever, which this thread runs

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"app {version('app')} listens on http://{host}:{server.port}", flush=True)
    server.serve_forever(poll_interval=0.1)


def main() -> None:
    """Run as the command `app`."""
    parser = argparse.ArgumentParser(prog="app", description="A page that asks for a series B.")
    parser.add_argument("--version", action="version", version=f"app {version('app')}")
    parser.parse_args()
    serve(os.environ.get("HOST") or "127.0.0.1", parse_port())


if __name__ == "__main__":
    main()
