"""A service that is built and up in a moment, for tests that deploy it hundreds of times."""

import json
import os
import signal
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        # The files' version beside the environment's, so that a test sees whether they belong together.
        version = (ROOT / "VERSION").read_text().strip()
        body = json.dumps({"version": version, "round": os.environ.get("ROUND")}).encode()
        self.send_response(500 if (ROOT / "SICK").exists() else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Probes are not worth a line."""


# As the first process of a container, it would not hear the signal otherwise.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
# For a test that needs a moment before it listens.
time.sleep(float(os.environ.get("DELAY", "0")))
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
