"""The catalogue over HTTP, on a server process."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.authentication.models import SellerStatus
from app.common.ids import encode, uuid7
from app.inventory.models import Price, Product, ProductStatus
from tests.inventory.factories import make_product, make_seller, make_stock, make_variant

LIST = "/api/v1/products"
NGN_15K = {"amount_minor": 1_500_000, "currency": "NGN"}


@pytest.fixture
def http(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server) as client:
        yield client


def make_products(count: int) -> list[Product]:
    """Active products with a price, oldest first."""
    seller = make_seller()
    products = [make_product(seller=seller) for _ in range(count)]
    for product in products:
        make_variant(product=product)
    return products


def assert_problem(response: httpx.Response, status: int, code: str, pointer: str = "") -> None:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    if pointer:
        assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [(pointer, code)]


def test_the_list_shows_the_cheapest_price_and_the_seller(http: httpx.Client) -> None:
    product = make_product(seller=make_seller(name="Adire House"), slug="kaftan", name="Kaftan")
    for naira, dollars in ((20_000, 15), (15_000, 12), (30_000, 20)):
        make_variant(product=product, prices={"NGN": naira * 100, "USD": dollars * 100})
    response = http.get(LIST)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "items": [
            {
                "id": product.pid,
                "slug": "kaftan",
                "name": "Kaftan",
                "seller": {"id": product.seller.pid, "name": "Adire House"},
                "price": NGN_15K,
            }
        ],
        "next": None,
    }
    assert "link" not in response.headers
    in_dollars = http.get(LIST, params={"currency": "USD"}).json()["items"][0]["price"]
    assert in_dollars == {"amount_minor": 1200, "currency": "USD"}
    assert http.get(LIST, params={"currency": "GHS"}).json()["items"][0]["price"] is None


def test_pages_are_complete_and_newest_first(http: httpx.Client) -> None:
    newest_first = [product.pid for product in reversed(make_products(7))]
    seen, sizes, url = [], [], f"{LIST}?limit=3&currency=USD"
    while url:
        response = http.get(url)
        page = response.json()
        sizes.append(len(page["items"]))
        seen += [item["id"] for item in page["items"]]
        url = response.links["next"]["url"] if page["next"] else ""
        if url:
            assert url == f"{LIST}?limit=3&currency=USD&cursor={page['next']}"
    assert (sizes, seen) == ([3, 3, 1], newest_first)


def test_a_cursor_holds_the_public_id_of_the_last_product(http: httpx.Client) -> None:
    products = make_products(3)
    text = http.get(LIST, params={"limit": 2}).json()["next"]
    assert json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) == [products[1].pid]


def test_a_cursor_outlives_its_product(http: httpx.Client) -> None:
    products = make_products(3)
    text = http.get(LIST, params={"limit": 2}).json()["next"]
    Product.objects.filter(pk=products[1].pk).update(status=ProductStatus.ARCHIVED)
    page = http.get(LIST, params={"cursor": text}).json()
    assert [item["id"] for item in page["items"]] == [products[0].pid]


def test_the_order_is_that_of_the_public_ids(http: httpx.Client) -> None:
    earlier = uuid7()
    later = make_product()
    first = make_product()
    Product.objects.filter(pk=first.pk).update(public_id=earlier)
    listed = [item["id"] for item in http.get(LIST).json()["items"]]
    assert listed == [later.pid, encode("prd", earlier)]


def test_a_full_last_page_names_no_next_one(http: httpx.Client) -> None:
    make_products(4)
    first = http.get(LIST, params={"limit": 2}).json()
    second = http.get(LIST, params={"limit": 2, "cursor": first["next"]}).json()
    assert (len(second["items"]), second["next"]) == (2, None)


def test_pages_stay_stable_while_products_come_and_go(http: httpx.Client) -> None:
    old = make_products(6)
    first = http.get(LIST, params={"limit": 2}).json()
    make_products(2)  # newer: before the first page
    Product.objects.filter(pk__in=[old[5].pk, old[2].pk]).update(status=ProductStatus.ARCHIVED)
    second = http.get(LIST, params={"limit": 9, "cursor": first["next"]}).json()
    assert [item["id"] for item in second["items"]] == [p.pid for p in (old[3], old[1], old[0])]


def test_only_what_is_on_sale_is_shown(http: httpx.Client) -> None:
    hidden = [
        make_product(status=ProductStatus.DRAFT),
        make_product(status=ProductStatus.ARCHIVED),
        make_product(seller=make_seller(status=SellerStatus.SUSPENDED)),
    ]
    shown = make_product()
    assert [item["id"] for item in http.get(LIST).json()["items"]] == [shown.pid]
    for product in hidden:
        variant = make_stock(make_variant(product=product)).variant
        assert_problem(http.get(f"{LIST}/{product.slug}"), 404, "not_found")
        assert_problem(http.get(f"/api/v2/stock/{variant.pid}"), 404, "not_found")


def test_the_detail_has_every_variant_in_order(http: httpx.Client) -> None:
    product = make_product(slug="kaftan", name="Kaftan")
    large = make_variant(product=product, sku="K-L", options={"size": "L"}, prices={"NGN": 3_000})
    small = make_variant(product=product, sku="K-S", options={"size": "S"}, prices={"USD": 7})
    response = http.get(f"{LIST}/kaftan")
    assert response.status_code == 200
    assert response.json() == {
        "id": product.pid,
        "slug": "kaftan",
        "name": "Kaftan",
        "seller": {"id": product.seller.pid, "name": "Adire House"},
        "price": {"amount_minor": 3_000, "currency": "NGN"},
        "description": "Falls straight from the shoulder.",
        "variants": [
            {
                "id": large.pid,
                "sku": "K-L",
                "options": {"size": "L"},
                "price": {"amount_minor": 3_000, "currency": "NGN"},
            },
            {"id": small.pid, "sku": "K-S", "options": {"size": "S"}, "price": None},
        ],
    }


def test_a_product_without_variants(http: httpx.Client) -> None:
    product = make_product()
    body = http.get(f"{LIST}/{product.slug}").json()
    assert (body["variants"], body["price"]) == ([], None)


@pytest.mark.parametrize("path", [LIST, f"{LIST}/kaftan"])
def test_an_etag_saves_the_body_until_something_changes(http: httpx.Client, path: str) -> None:
    variant = make_variant(product=make_product(slug="kaftan"))
    first = http.get(path)
    etag = first.headers["etag"]
    assert etag.startswith('"')
    assert first.headers["cache-control"] == "public, no-cache"
    again = http.get(path, headers={"If-None-Match": f"W/{etag}"})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    Price.objects.filter(variant=variant).update(amount_minor=1)
    changed = http.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


def test_a_304_keeps_the_link_to_the_next_page(http: httpx.Client) -> None:
    make_products(2)
    first = http.get(LIST, params={"limit": 1})
    again = http.get(LIST, params={"limit": 1}, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.headers["link"] == first.headers["link"]


def test_stock_is_what_one_order_can_have(http: httpx.Client) -> None:
    stock = make_stock(on_hand=4)
    make_stock(stock.variant, on_hand=7)
    make_stock(stock.variant, on_hand=2)
    pid = stock.variant.pid
    response = http.get(f"/api/v2/stock/{pid}")
    assert response.json() == {"variant": pid, "available": 7, "in_stock": True}
    bought = []
    for quantity in (8, 7, 5, 3):
        shown = http.get(f"/api/v2/stock/{pid}").json()["available"]
        lines = [{"variant": pid, "quantity": quantity}]
        order = {"email": "ada@example.com", "currency": "NGN", "lines": lines}
        answer = http.post("/api/v1/checkout", json=order)
        assert answer.status_code == (201 if quantity <= shown else 409)
        if answer.status_code == 409:
            assert answer.json()["errors"][0]["available"] == shown
        bought.append((shown, answer.status_code))
    assert bought == [(7, 409), (7, 201), (4, 409), (4, 201)]
    assert http.get(f"/api/v2/stock/{pid}").json()["available"] == 2


def test_a_variant_without_stock(http: httpx.Client) -> None:
    empty = make_stock(on_hand=0).variant.pid
    response = http.get(f"/api/v2/stock/{empty}")
    assert response.json() == {"variant": empty, "available": 0, "in_stock": False}
    unstocked = make_variant().pid
    assert http.get(f"/api/v2/stock/{unstocked}").json()["in_stock"] is False


ZEROS = "0" * 26


def cursor(raw: str) -> str:
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("query", "code", "pointer"),
    [
        ("limit=0", "bad_limit", "?limit"),
        ("limit=101", "bad_limit", "?limit"),
        ("limit=-1", "bad_limit", "?limit"),
        ("limit=2.5", "bad_limit", "?limit"),
        ("limit=", "bad_limit", "?limit"),
        ("limit=%00", "bad_limit", "?limit"),
        ("limit=99999999999999999999", "bad_limit", "?limit"),
        ("limit=%D9%A3", "bad_limit", "?limit"),  # an Arabic digit
        ("limit=1&limit=2", "repeated_parameter", "?limit"),
        ("cursor=", "bad_cursor", "?cursor"),
        ("cursor=!!", "bad_cursor", "?cursor"),
        ("cursor=%00", "bad_cursor", "?cursor"),
        ("cursor=%FF%FE", "bad_cursor", "?cursor"),
        (f"cursor={cursor('7')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[1,2]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[true]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[1.5]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[7]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[[]]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[{}]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[""]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor(f'["var_{ZEROS}"]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor(f'["prd_8{ZEROS[1:]}"]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor(f'["prd_{ZEROS}0"]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor(f'["prd_{ZEROS}", 1]')}", "bad_cursor", "?cursor"),
        (f"cursor={cursor('[null]')}", "bad_cursor", "?cursor"),
        (f"cursor={'A' * 5000}", "bad_cursor", "?cursor"),
        ("currency=XXX", "unknown_currency", "?currency"),
        ("currency=ngn", "unknown_currency", "?currency"),
        ("currency=", "unknown_currency", "?currency"),
        ("currency=N%00N", "unknown_currency", "?currency"),
        ("sort=price", "unknown_parameter", "?sort"),
        ("LIMIT=1", "unknown_parameter", "?LIMIT"),
    ],
)
def test_a_bad_query_is_a_problem(http: httpx.Client, query: str, code: str, pointer: str) -> None:
    assert_problem(http.get(f"{LIST}?{query}"), 400, code, pointer)


@pytest.mark.parametrize(
    "path",
    [
        f"{LIST}/no-such-product",
        f"{LIST}/%00",
        f"{LIST}/a%2Fb",
        f"{LIST}/{'x' * 500}",
        f"{LIST}/",
        "/api/v2/stock/var_00000000000000000000000000",
        "/api/v2/stock/prd_00000000000000000000000000",
        "/api/v2/stock/7",
        "/api/v2/stock/%00",
        "/api/v2/stock/var_8zzzzzzzzzzzzzzzzzzzzzzzzz",
    ],
)
def test_an_address_of_nothing_is_a_404(http: httpx.Client, path: str) -> None:
    assert_problem(http.get(path), 404, "not_found")


def test_the_detail_knows_only_the_currency(http: httpx.Client) -> None:
    path = f"{LIST}/{make_product().slug}"
    assert_problem(http.get(f"{path}?limit=1"), 400, "unknown_parameter", "?limit")
    assert_problem(http.get(f"{path}?currency=XXX"), 400, "unknown_currency", "?currency")


def test_stock_knows_no_parameter(http: httpx.Client) -> None:
    path = f"/api/v2/stock/{make_stock().variant.pid}"
    for query, pointer in (("currency=NGN", "?currency"), ("", ""), ("x", "?x"), ("=1", "?")):
        response = http.get(f"{path}?{query}")
        if pointer:
            assert_problem(response, 400, "unknown_parameter", pointer)
        else:
            assert response.status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize("path", [LIST, f"{LIST}/kaftan", "/api/v2/stock/var_0"])
def test_a_wrong_method_is_a_405(http: httpx.Client, method: str, path: str) -> None:
    response = http.request(method, path)
    assert_problem(response, 405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", [LIST, f"{LIST}/kaftan", "/api/v2/stock/{variant}"])
def test_head_is_get_without_the_body(http: httpx.Client, path: str) -> None:
    variant = make_stock(make_variant(product=make_product(slug="kaftan"))).variant
    path = path.format(variant=variant.pid)
    head, get = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-type", "content-length"):
        assert head.headers.get(name) == get.headers.get(name)
    assert http.head(f"{path}?x=1").status_code == 400
    assert http.head(f"{path}x").status_code == 404


def test_security_headers_are_on_every_answer(http: httpx.Client) -> None:
    answers: dict[str, Any] = {path: http.get(path) for path in (LIST, f"{LIST}?limit=0", "/x")}
    for response in answers.values():
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["traceresponse"].startswith("00-")
