"""Every route stands in routes.toml with its exact hop count; `make hops` measures the counts."""

from django.http import HttpRequest, HttpResponse
from rest_framework.views import APIView

from tests.architecture.routes import Route, catalogued, describe, served

HOPS = {"hot": {0}, "plain": {0}, "ninja": {0, 1, 2}, "service": {1, 2}}


def test_catalogue_lists_exactly_what_is_served() -> None:
    assert served() == set(catalogued())


def test_hop_counts_fit_the_framework() -> None:
    wrong = [route for route, hops in catalogued().items() if hops not in HOPS[route.framework]]
    assert wrong == []


def test_one_path_one_framework() -> None:
    paths = [route.path for route in catalogued()]
    assert len(paths) == len(set(paths))


def test_no_route_ends_in_a_slash() -> None:
    assert [route.path for route in catalogued() if route.path.endswith("/")] == []


class Stock(APIView):
    """A stock DRF view: four hops instead of one."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


def test_planted_stock_view_is_told_apart() -> None:
    planted = describe("/api/v1/products", Stock.as_view())
    assert planted == Route("/api/v1/products", frozenset({"GET"}), "other")
    assert planted not in catalogued()
