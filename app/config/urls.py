"""All routes: v1 (DRF and ADRF) and v2 (Ninja) of every domain, and the probes."""

from django.urls import include, path

from app.common.problems import ProblemAPI
from app.config.health import livez, readyz
from app.inventory.api.urls import v1 as inventory_v1
from app.inventory.api.v2 import router as inventory_v2
from app.orders.api.urls import v1 as orders_v1

HOT_PREFIXES = ("/api/v1/products", "/api/v2/stock/")
"""Paths of public hot reads: their traces are sampled by OTEL_HOT_RATIO."""

api_v2 = ProblemAPI(
    title="FASHIONISTAR", version="2", docs_url=None, openapi_url=None, urls_namespace="v2"
)
api_v2.add_router("", inventory_v2)

urlpatterns = [
    path("api/v1/", include([*inventory_v1, *orders_v1])),
    path("api/v2/", api_v2.urls),
    path("livez", livez),
    path("readyz", readyz),
]
