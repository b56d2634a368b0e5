"""Routes of the error tests: the same mistakes in DRF, ADRF, Ninja and plain Django."""

import asyncio
from typing import Any

import ninja
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from psycopg_pool import PoolTimeout
from rest_framework.exceptions import NotAuthenticated, Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from app.common.errors import DomainError, FieldError, Invalid
from app.common.problems import ProblemAPI
from app.common.schema import StrictSchema
from app.common.views import HotView, ServiceView, json_response


class SoldOut(DomainError):
    code = "sold_out"
    title = "Sold out"


def fail(kind: str) -> None:
    errors: dict[str, Exception] = {
        "domain": SoldOut("None left.", errors=[FieldError("/lines/0", "short", "0 left")], left=0),
        "invalid": Invalid("Correct it."),
        "missing": Http404("no"),
        "forbidden": PermissionDenied("no"),
        "suspicious": SuspiciousOperation("no"),
        "pool": PoolTimeout("couldn't get a connection after 3.00 sec"),
        "bug": ZeroDivisionError("division by zero"),
    }
    if kind in errors:
        raise errors[kind]


class Drf(APIView):
    def get(self, request: Request, kind: str) -> HttpResponse:
        if kind == "validation":
            raise ValidationError({"lines": [{"quantity": ["must be positive"]}]})
        if kind == "anonymous":
            raise NotAuthenticated
        if kind == "throttled":
            raise Throttled(wait=7)
        fail(kind)
        return json_response({})


class Hot(HotView):
    async def get(self, request: HttpRequest, kind: str) -> HttpResponse:
        fail(kind)
        return json_response({})


class Service(ServiceView):
    def get(self, request: HttpRequest, kind: str) -> HttpResponse:
        fail(kind)
        return json_response({})

    def post(self, request: HttpRequest, kind: str) -> HttpResponse:
        return json_response({}, status=201)


class Body(StrictSchema):
    quantity: int


api = ProblemAPI(urls_namespace="errors", docs_url=None, openapi_url=None)


@api.get("/{kind}")
async def operation(request: HttpRequest, kind: str, page: int = 1) -> dict[str, Any]:
    fail(kind)
    if kind == "refused":
        raise ninja.errors.HttpError(403, "Not yours.")
    return {}


@api.post("/{kind}")
async def create(request: HttpRequest, kind: str, body: Body) -> dict[str, Any]:
    return {}


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> Any:
        for part in (b"a", b"b"):
            await asyncio.sleep(0)
            yield part

    return StreamingHttpResponse(parts())


async def slow(request: HttpRequest) -> HttpResponse:
    await asyncio.Event().wait()
    return HttpResponse()


async def plain(request: HttpRequest, kind: str) -> HttpResponse:
    fail(kind)
    return HttpResponse()


urlpatterns = [
    path("drf/<str:kind>", Drf.as_view()),
    path("hot/<str:kind>", Hot.as_view()),
    path("service/<str:kind>", Service.as_view()),
    path("ninja/", api.urls),
    path("plain/<str:kind>", plain),
    path("stream", stream),
    path("slow", slow),
    path("livez", plain, {"kind": "ok"}),
]
