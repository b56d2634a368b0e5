"""Accounts and sellers, and what the database refuses."""

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.db import IntegrityError, transaction

from app.authentication import services
from app.authentication.models import Seller, User

pytestmark = pytest.mark.django_db


def test_the_account_is_ours_from_the_first_migration() -> None:
    assert get_user_model() is User


def test_an_account_is_found_whatever_the_case_of_its_address() -> None:
    user = User.objects.create_user("Ada@Example.COM", "correct horse")
    assert user.email == "ada@example.com"
    assert user.pid.startswith("usr_")
    assert user.password.startswith("argon2")
    assert User.objects.get_by_natural_key("ADA@example.com") == user
    assert authenticate(username="aDa@eXample.com", password="correct horse") == user
    assert authenticate(username="ada@example.com", password="wrong horse") is None


def test_addresses_that_differ_in_case_only_are_one() -> None:
    User.objects.create_user("ada@example.com")
    with pytest.raises(IntegrityError, match="authentication_user_email"), transaction.atomic():
        User.objects.create_user("ADA@example.com")


def test_the_database_refuses_a_second_spelling() -> None:
    User.objects.create_user("ada@example.com")
    with pytest.raises(IntegrityError, match="authentication_user_email_lower"):
        User.objects.update(email="Ada@example.com")


def test_an_account_without_password_cannot_log_in() -> None:
    user = User.objects.create_user("ada@example.com")
    assert not user.has_usable_password()
    assert (user.is_staff, user.is_superuser, user.is_active) == (False, False, True)


def test_a_superuser() -> None:
    user = User.objects.create_superuser("root@example.com", "correct horse")
    assert (user.is_staff, user.is_superuser) == (True, True)


def test_ensure_seller_makes_it_once() -> None:
    first = services.ensure_seller(slug="adire-house", name="Adire House")
    again = services.ensure_seller(slug="adire-house", name="Another name")
    seller = Seller.objects.get()
    assert first == again == services.SellerRef(key=seller.pk, pid=seller.pid, slug="adire-house")
    assert (seller.name, seller.status) == ("Adire House", "active")


def test_the_database_refuses_an_unknown_status() -> None:
    with pytest.raises(IntegrityError, match="authentication_seller_status_known"):
        Seller.objects.create(slug="x", name="X", status="invented")
