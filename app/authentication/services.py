"""Public API of the authentication domain."""

from dataclasses import dataclass

from app.authentication.models import Seller, SellerStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class SellerRef:
    """A seller as other domains see it; `key` is for foreign keys and never leaves the system."""

    key: int
    pid: str
    slug: str


def ensure_seller(*, slug: str, name: str) -> SellerRef:
    """The active seller with this slug, made when it does not exist yet."""
    seller, _ = Seller.objects.get_or_create(
        slug=slug, defaults={"name": name, "status": SellerStatus.ACTIVE}
    )
    return SellerRef(key=seller.pk, pid=seller.pid, slug=seller.slug)
