"""A web service that keeps one pipeline loaded and compiled: POST /images with a prompt answers with a PNG.

pip install 'wavespeed-runner[service]'
python examples/web_service.py model=demo cache=fbcache compile=regional
python examples/web_service.py experiment/mine.yaml compile=regional
curl -o image.png -d '{"prompt": "a red circle", "seed": 3}' localhost:8000/images
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wavespeed_runner import load
from wavespeed_runner.errors import ConfigError

TAKES = ("prompt", "negative_prompt", "seed", "steps", "width", "height")
"""What a request may say. `image` and `mask` are not among them: they name files of this machine."""
LIMITS = ["limits.pixels=1048576", "limits.steps=200"]
"""What one request may ask for, an image of 1024 x 1024; more is refused."""
MOST_WORK = 50 * 1024 * 1024
"""Steps x width x height of one request, since one worker answers all: `LIMITS` bounds each, and not their product."""
MOST_BYTES = 64 * 1024
"""Of the body of a request."""


def build_app(load_pipeline: Callable[[], Any]) -> Starlette:
    """The service. It loads at once, and makes a first image, so that no request waits for the compiler."""
    # One thread: images are made one after the other, and CUDA graphs belong to the thread that made them.
    worker = ThreadPoolExecutor(max_workers=1)
    pipe = worker.submit(load_pipeline).result()
    worker.submit(pipe, "warm-up").result()

    def make_png(values: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        pipe(**values)[0].save(buffer, "PNG")
        return buffer.getvalue()

    async def make_image(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                return JSONResponse({"error": f"a body of at most {MOST_BYTES} bytes is read"}, status_code=413)
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):  # no JSON, or one list in another without end
            return JSONResponse({"error": "the body is not JSON"}, status_code=400)
        if not isinstance(values, dict) or "prompt" not in values or not set(values) <= set(TAKES):
            return JSONResponse({"error": f"give a prompt, and of {', '.join(TAKES)} what you like"}, status_code=400)
        if not isinstance(values["prompt"], str):  # of a list, only the first image would be answered with
            return JSONResponse(
                {"error": "prompt: one text is needed, since one PNG is answered with"}, status_code=400
            )
        try:
            refuse_much_work(pipe.plan.config, values)
            png = await asyncio.get_running_loop().run_in_executor(worker, make_png, values)
        except ConfigError as error:  # a value that does not fit; anything else is a fault of the server's, status 500
            return JSONResponse({"error": str(error)}, status_code=400)
        return Response(png, media_type="image/png")

    return Starlette(routes=[Route("/images", make_image, methods=["POST"])])


def refuse_much_work(config: Any, values: dict[str, Any]) -> None:
    """Refuses a request of more steps x pixels than `MOST_WORK`, or than the settings themselves have.

    Raises:
        ConfigError: it asks for more, or a number is none.
    """
    usual = {key: getattr(config, key) or getattr(config.model, key) for key in ("steps", "width", "height")}
    asked = {key: default if values.get(key) is None else values[key] for key, default in usual.items()}
    for key, number in asked.items():
        if not isinstance(number, int):  # a text would be read as a number later
            raise ConfigError(f"{key}={str(number)[:80]}: a whole number is needed")
    most, work = max(MOST_WORK, prod(usual.values())), prod(asked.values())
    if work > most:
        raise ConfigError(
            f"steps={asked['steps']} width={asked['width']} height={asked['height']}: steps x width x height is "
            f"{work}, and at most {most} are made; ask for fewer steps or a smaller image"
        )


def load_from(arguments: list[str]) -> Any:
    """The pipeline of a command line: an experiment file and overrides, or overrides alone."""
    if arguments and "=" not in arguments[0]:
        return load(arguments[0], [*arguments[1:], *LIMITS])
    return load([*arguments, *LIMITS])


if __name__ == "__main__":
    try:
        app = build_app(lambda: load_from(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"error: {error}")
    uvicorn.run(app, host="127.0.0.1", port=8000)
