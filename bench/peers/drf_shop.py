"""A shop of one process on Django REST Framework, as its documentation would have it.

Serializers check what comes and write what goes, connections are kept, variants are prefetched, an
order is one atomic block that locks its variants in the order of their ids.
"""

from __future__ import annotations

import os
import secrets
from typing import Any, ClassVar
from urllib.parse import urlsplit

import django
from django.conf import settings

_database = urlsplit(os.environ["PEER_DATABASE_URL"])
settings.configure(
    SECRET_KEY=os.environ["PEER_SECRET"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    USE_TZ=True,
    TIME_ZONE="UTC",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _database.path.lstrip("/"),
            "USER": _database.username,
            "PASSWORD": _database.password,
            "HOST": _database.hostname,
            "PORT": _database.port,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"options": "-c search_path=drf -c jit=off"},
        }
    },
    REST_FRAMEWORK={
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

# Django has to be set up before models can be defined.
import jwt  # noqa: E402
from django.contrib.postgres.fields import ArrayField  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models, transaction  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework import exceptions, generics, serializers, status  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.pagination import CursorPagination  # noqa: E402
from rest_framework.permissions import BasePermission  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from uuid_utils.compat import uuid7  # noqa: E402


class User(models.Model):
    id = models.UUIDField(primary_key=True)
    email = models.TextField()

    class Meta:
        app_label, db_table, managed = "shop", "users", False


class Product(models.Model):
    id = models.UUIDField(primary_key=True)
    slug = models.TextField()
    name = models.TextField()
    description = models.TextField()
    category_ids = ArrayField(models.UUIDField())
    attributes = models.JSONField()
    media = models.JSONField()
    default_variant_id = models.UUIDField()
    create_time = models.DateTimeField()
    update_time = models.DateTimeField()

    class Meta:
        app_label, db_table, managed = "shop", "products", False


class Variant(models.Model):
    id = models.UUIDField(primary_key=True)
    product = models.ForeignKey(Product, models.PROTECT, related_name="variants")
    sku = models.TextField()
    options = models.JSONField()
    price = models.BigIntegerField()
    currency = models.TextField()
    weight_grams = models.IntegerField()
    on_hand = models.IntegerField()
    reserved = models.IntegerField()

    class Meta:
        app_label, db_table, managed, ordering = "shop", "variants", False, ("id",)

    @property
    def available(self) -> int:
        return int(self.on_hand - self.reserved)


class Order(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7)
    number = models.TextField(default=lambda: secrets.token_hex(5).upper())
    user = models.ForeignKey(User, models.PROTECT)
    email = models.TextField()
    status = models.TextField(default="AWAITING_PAYMENT")
    currency = models.TextField()
    total = models.BigIntegerField()
    shipping_address = models.JSONField()
    create_time = models.DateTimeField(default=timezone.now)

    class Meta:
        app_label, db_table, managed = "shop", "orders", False


class OrderLine(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7)
    order = models.ForeignKey(Order, models.PROTECT)
    variant = models.ForeignKey(Variant, models.PROTECT)
    product_name = models.TextField()
    sku = models.TextField()
    options = models.JSONField()
    quantity = models.IntegerField()
    unit_price = models.BigIntegerField()

    class Meta:
        app_label, db_table, managed = "shop", "order_lines", False


class VariantSerializer(serializers.ModelSerializer):
    class Meta:
        model = Variant
        fields = ("id", "sku", "options", "price", "currency", "weight_grams", "available")


class ProductSerializer(serializers.ModelSerializer):
    variants = VariantSerializer(many=True)

    class Meta:
        model = Product
        fields = (
            *("id", "slug", "name", "description", "category_ids", "attributes", "media"),
            *("default_variant_id", "variants", "create_time", "update_time"),
        )


class ItemSerializer(serializers.Serializer):
    variant_id = serializers.UUIDField()
    quantity = serializers.IntegerField(min_value=1, max_value=999)


class AddressSerializer(serializers.Serializer):
    region_code = serializers.RegexField("^[A-Z]{2}$")
    address_lines = serializers.ListField(child=serializers.CharField(max_length=200), max_length=5)


class NewOrderSerializer(serializers.Serializer):
    items = ItemSerializer(many=True, allow_empty=False, max_length=100)
    shipping_address = AddressSerializer()


class LineSerializer(serializers.ModelSerializer):
    class Meta:
        model = OrderLine
        fields = (
            *("id", "variant_id", "product_name", "sku", "options", "quantity", "unit_price"),
        )


class OrderSerializer(serializers.ModelSerializer):
    class Meta:
        model = Order
        fields = (
            *("id", "number", "user_id", "email", "status", "currency", "total"),
            *("shipping_address", "create_time"),
        )


class Tokens(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, str] | None:
        _, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            return None
        try:
            claims = jwt.decode(token, settings.SECRET_KEY, ["HS256"])
        except jwt.InvalidTokenError:
            raise exceptions.AuthenticationFailed from None
        user = User.objects.filter(id=claims["sub"]).first()
        if user is None:
            raise exceptions.AuthenticationFailed
        return user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SignedIn(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.user is not None


class Pages(CursorPagination):
    ordering = ("name", "id")
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 1000


class ProductList(generics.ListAPIView):
    queryset = Product.objects.prefetch_related("variants")
    serializer_class = ProductSerializer
    pagination_class = Pages


class ProductDetail(generics.RetrieveAPIView):
    queryset = Product.objects.prefetch_related("variants")
    serializer_class = ProductSerializer


class Orders(APIView):
    authentication_classes: ClassVar[Any] = [Tokens]
    permission_classes: ClassVar[Any] = [SignedIn]

    def post(self, request: Request) -> Response:
        asked = NewOrderSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        quantities = {
            item["variant_id"]: item["quantity"] for item in asked.validated_data["items"]
        }
        with transaction.atomic():
            order, lines = self._place(request.user, quantities, asked.data["shipping_address"])
        answer = OrderSerializer(order).data
        answer["lines"] = LineSerializer(lines, many=True).data
        return Response(answer, status=status.HTTP_201_CREATED)

    def _place(
        self, user: User, quantities: dict[Any, int], address: Any
    ) -> tuple[Order, list[OrderLine]]:
        wanted = Variant.objects.filter(id__in=quantities).order_by("id")
        variants = list(wanted.select_related("product").select_for_update(of=("self",)))
        if len(variants) < len(quantities):
            raise exceptions.NotFound
        for variant in variants:
            if variant.available < quantities[variant.id]:
                raise exceptions.ValidationError({"items": f"{variant.sku} is out of stock."})
            variant.reserved += quantities[variant.id]
        Variant.objects.bulk_update(variants, ["reserved"])
        order = Order.objects.create(
            user=user,
            email=user.email,
            currency=variants[0].currency,
            total=sum(variant.price * quantities[variant.id] for variant in variants),
            shipping_address=address,
        )
        lines = OrderLine.objects.bulk_create(
            OrderLine(
                order=order,
                variant=variant,
                product_name=variant.product.name,
                sku=variant.sku,
                options=variant.options,
                quantity=quantities[variant.id],
                unit_price=variant.price,
            )
            for variant in variants
        )
        return order, lines


urlpatterns = [
    path("api/products/", ProductList.as_view()),
    path("api/products/<uuid:pk>/", ProductDetail.as_view()),
    path("api/orders/", Orders.as_view()),
]
application = get_wsgi_application()
