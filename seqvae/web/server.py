"""The server behind the page: a few routes to one model, on one machine."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import numpy as np
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from seqvae.errors import SeqVAEError
from seqvae.io.disk import jsonable
from seqvae.web import requests
from seqvae.web.atlas import MAPS
from seqvae.web.explorer import Explorer
from seqvae.web.guard import Guard
from seqvae.web.page import TYPES, assets
from seqvae.web.points import as_parquet, as_tsv

AT_ONCE, WAITING = 3, 24
"""Questions to the model that are worked on side by side, and that may wait besides."""

logger = logging.getLogger("seqvae.web")

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(explorer: Explorer, *, host: str = "127.0.0.1", token: str | None = None) -> Starlette:
    """The page and its answers; ``token`` where others than this machine may ask."""
    questions = {
        "sentence": (requests.SentenceRequest, explorer.sentence),
        "path": (requests.PathRequest, explorer.path),
        "decode": (requests.DecodeRequest, explorer.decode),
        "walk": (requests.WalkRequest, explorer.walk),
        "sum": (requests.SumRequest, explorer.sum),
        "sample": (requests.SampleRequest, explorer.sample),
        "fill": (requests.FillRequest, explorer.fill),
    }
    routes = [
        Route("/", _asset),
        Route("/static/{path:path}", _asset),
        Route("/api/about", _told(lambda _: explorer.about())),
        Route("/api/texts", _told(lambda _: explorer.texts())),
        Route("/api/map/{name}", _numbers(lambda name: _map(explorer, name))),
        Route("/api/column/{name}", _numbers(explorer.column)),
        Route("/api/diagnosis", _told(lambda _: explorer.diagnose())),
        Route("/points/{name}.tsv", _points(explorer, "tsv")),
        Route("/points/{name}.parquet", _points(explorer, "parquet")),
    ]
    turn = _Turn()
    routes += [
        Route(f"/api/{name}", _asked(kind, answer, turn), methods=["POST"])
        for name, (kind, answer) in questions.items()
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, host=host, token=token)])


async def _asset(request: Request) -> Response:
    path = request.path_params.get("path", "index.html")
    content = assets().get(path)
    if content is None:
        return _error(404, "there is no such file")
    return Response(content, media_type=TYPES[path[path.rindex(".") :]])


def _told(answer: Callable[[Request], Any]) -> Endpoint:
    """What needs no question; 202 while it is being made."""

    async def endpoint(request: Request) -> Response:
        return await _guarded(lambda: _json(answer(request)))

    return endpoint


def _numbers(answer: Callable[[str], np.ndarray | None]) -> Endpoint:
    """An array as little-endian fp32."""

    def respond(name: str) -> Response:
        try:
            found = answer(name)
        except KeyError:
            return _error(404, "there is no such column")
        if found is None:
            return _json(None)
        return Response(found.astype("<f4").tobytes(), media_type="application/octet-stream")

    async def endpoint(request: Request) -> Response:
        return await _guarded(lambda: respond(request.path_params["name"]))

    return endpoint


def _map(explorer: Explorer, name: str) -> np.ndarray | None:
    if name not in MAPS:
        raise KeyError(name)
    found = explorer.atlas.map(name)
    return None if found is None else found.xy


def _points(explorer: Explorer, kind: str) -> Endpoint:
    def respond(name: str) -> Response:
        drawn = explorer.atlas.maps.get(name)
        if drawn is None:
            return _error(404, "there is no such map yet")
        headers = {"content-disposition": f'attachment; filename="points-{name}.{kind}"'}
        if kind == "tsv":
            return StreamingResponse(
                as_tsv(explorer, drawn), headers=headers, media_type="text/tab-separated-values; charset=utf-8"
            )
        return Response(as_parquet(explorer, drawn), headers=headers, media_type="application/vnd.apache.parquet")

    async def endpoint(request: Request) -> Response:
        return await _guarded(lambda: respond(request.path_params["name"]))

    return endpoint


class _Turn:
    """Bounds how many questions are at the model, and how many wait for it."""

    def __init__(self) -> None:
        self.limiter, self.inside = anyio.CapacityLimiter(AT_ONCE), 0


def _asked(kind: type[requests.Request], answer: Callable[[Any], Any], turn: _Turn) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            asked = kind.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            return _error(422, f"{place}: {first['msg']}" if place else first["msg"])
        if turn.inside >= AT_ONCE + WAITING:
            return _error(429, "too many questions at once")
        turn.inside += 1
        try:
            async with turn.limiter:
                return await _guarded(lambda: _json(answer(asked)))
        finally:
            turn.inside -= 1

    return endpoint


async def _guarded(respond: Callable[[], Response]) -> Response:
    """Works in a thread; what goes wrong is told, and a fault of ours leaves its traceback in the log alone."""
    try:
        return await run_in_threadpool(respond)
    except SeqVAEError as error:
        return _error(400, error.what, code=error.code, hint=error.hint)
    except Exception as error:
        logger.exception("the explorer failed")
        return _error(500, f"a fault of seqvae ({type(error).__name__}); the terminal says more")


def _json(value: Any, status: int = 200) -> Response:
    if value is None:
        status, value = 202, {"waiting": True}
    content = json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False)
    return Response(content.encode(errors="replace"), status_code=status, media_type="application/json")


def _error(status: int, what: str, *, code: str | None = None, hint: str | None = None) -> Response:
    return _json({"error": {"code": code, "what": what, "hint": hint}}, status)
