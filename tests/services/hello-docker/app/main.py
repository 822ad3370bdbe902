"""A small service that the tests deploy."""

import os
from pathlib import Path

from fastapi import FastAPI, HTTPException, Response

ROOT = Path(__file__).resolve().parent.parent

app = FastAPI(title="hello-docker")


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "healthy", "service": "hello-docker"}


@app.get("/version")
def version() -> Response:
    return Response((ROOT / "VERSION").read_bytes(), media_type="text/plain")


# For tests only: it shows any variable of the environment, secrets too. No real service has this.
# The bytes are as they are, so that a test can compare them one by one.
@app.get("/env/{name}")
def env(name: str) -> Response:
    value = os.environb.get(name.encode())
    if value is None:
        raise HTTPException(404, f"{name} is not set")
    return Response(value, media_type="application/octet-stream")
