"""Accounts of people, and the sellers (tenants) that own what is sold."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from app.common.models import PublicModel


class UserManager(BaseUserManager["User"]):
    """Accounts by e-mail address; every way in stores and finds it in lower case."""

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").lower())

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """A new account; without a password it cannot log in until one is set."""
        user = self.model(email=email.lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """A new account with every permission (Django's `createsuperuser`)."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(PublicModel, AbstractBaseUser, PermissionsMixin):
    """A person. The e-mail address is the login name, unique whatever its case."""

    PREFIX = "usr"
    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    email = models.EmailField(max_length=254)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        constraints: ClassVar = [
            # Together: unique whatever the case, on one plain index.
            models.UniqueConstraint(fields=["email"], name="authentication_user_email"),
            models.CheckConstraint(
                condition=models.Q(email=Lower("email")), name="authentication_user_email_lower"
            ),
        ]

    def __str__(self) -> str:
        return self.pid


class SellerStatus(models.TextChoices):
    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class Seller(PublicModel):
    """A tenant: products, variants, stock and order lines each name the seller they belong to."""

    PREFIX = "sel"

    slug = models.SlugField(max_length=80, db_index=False)
    name = models.CharField(max_length=120)
    status = models.CharField(max_length=16, choices=SellerStatus, default=SellerStatus.PENDING)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["slug"], name="authentication_seller_slug"),
            models.CheckConstraint(
                condition=models.Q(status__in=SellerStatus.values),
                name="authentication_seller_status_known",
            ),
        ]

    def __str__(self) -> str:
        return self.slug
