"""All settings, from the environment (README: Settings). Nothing here knows a domain's rules."""

import secrets

from django.utils.csp import CSP

from app.config import environment as env

APP_VERSION = env.text("APP_VERSION", "dev")
DEBUG = False
SECRET_KEY = env.required("SECRET_KEY", secrets.token_urlsafe(32))
ALLOWED_HOSTS = env.listed(env.required("ALLOWED_HOSTS", "shop.example.com,127.0.0.1"))
PUBLIC_BASE_URL = env.required("PUBLIC_BASE_URL", "https://shop.example.com").rstrip("/")
env.address("PUBLIC_BASE_URL", PUBLIC_BASE_URL, "https://shop.example.com", {"http", "https"})
TRUSTED_PROXIES = env.listed(env.text("TRUSTED_PROXIES"))

# --- process ----------------------------------------------------------------------------------
METRICS_PORT = env.whole("METRICS_PORT", 9464, maximum=65535)
REQUEST_THREADS = env.whole("REQUEST_THREADS", 8, minimum=1, maximum=64)
MAX_BODY_BYTES = env.whole("MAX_BODY_BYTES", 1_048_576, minimum=1024, maximum=100_000_000)
DATA_UPLOAD_MAX_MEMORY_SIZE = FILE_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
GRACEFUL_SECONDS = env.whole("GRACEFUL_SECONDS", 20, minimum=1)
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
OTEL_HOT_RATIO = env.number("OTEL_HOT_RATIO", 1.0, maximum=1)

# --- database -----------------------------------------------------------------------------------
_password = env.text("DATABASE_PASSWORD")
_pooled_url = env.required("DATABASE_URL", "postgresql://app_a:secret@127.0.0.1:5432/fashionistar")
_pooled = env.database("DATABASE_URL", _pooled_url, _password)
DIRECT_DATABASE = env.database(
    "DATABASE_DIRECT_URL", env.text("DATABASE_DIRECT_URL", _pooled_url), _password
)
"""Around PgBouncer: migrations need session locks and settings."""
DB_POOL_SIZE = env.whole("DB_POOL_SIZE", 8, minimum=1, maximum=200)
HOT_POOL_SIZE = env.whole("HOT_POOL_SIZE", 8, minimum=1, maximum=200)
DB_MAX_LIFETIME = env.number("DB_MAX_LIFETIME", 60, minimum=1)
"""Seconds; below the grace period of PgBouncer, so that its restart closes no busy connection."""
DB_POOL_TIMEOUT = 3.0
_pooled["CONN_MAX_AGE"] = 0
_pooled["DISABLE_SERVER_SIDE_CURSORS"] = True
_pooled["OPTIONS"] |= {
    "pool": {
        "min_size": min(2, DB_POOL_SIZE),
        "max_size": DB_POOL_SIZE,
        "timeout": DB_POOL_TIMEOUT,
        "max_waiting": 512,
        "max_lifetime": DB_MAX_LIFETIME,
        "check": env.check_connection,
    }
}
DATABASES = {"default": _pooled}
HOT_DSN = env.libpq(_pooled)
"""For connections that are not Django's: the async pool and the probe."""

# --- queue --------------------------------------------------------------------------------------
_queues = ["default", "orders", "emails", "sms", "logistics", "ai"]
_drain = {"sms": 10, "emails": 30, "orders": 30, "ai": 300}
TASKS = {
    "default": {
        "BACKEND": "app.taskqueue.backend.ClusterBackend",
        "QUEUES": _queues,
        "OPTIONS": {
            **env.cluster_options(
                "QUEUE_URL",
                env.required("QUEUE_URL", "valkey://127.0.0.1:7100,127.0.0.1:7101"),
                password=env.text("QUEUE_PASSWORD"),
                ca_file=env.text("QUEUE_CA_FILE"),
                prefix=env.text("QUEUE_PREFIX", "fs"),
            ),
            "shards": 1,
            "drain_seconds": env.numbers("QUEUE_DRAIN_SECONDS", _drain, _queues),
            "concurrency": env.numbers("QUEUE_CONCURRENCY", {}, _queues),
        },
    }
}
EVENT_HANDLERS = "app.config.subscriptions.HANDLERS"

# --- cache and rate limits ----------------------------------------------------------------------
CACHES = {
    "default": env.cluster(
        "CACHE_URL",
        env.required("CACHE_URL", "valkey://127.0.0.1:7100,127.0.0.1:7101"),
        password=env.text("CACHE_PASSWORD"),
        ca_file=env.text("CACHE_CA_FILE"),
        prefix=env.text("CACHE_PREFIX", "fs-cache"),
    )
}
RATE_LIMITS = {"checkout": (env.whole("RATE_LIMIT_CHECKOUT", 60), 60.0)}
"""Bucket -> requests (0 = no limit) per seconds and client address."""
SYNTHETIC_KEY = env.text("SYNTHETIC_KEY")

# --- e-mail -------------------------------------------------------------------------------------
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", "FASHIONISTAR <orders@fashionistar.example>")
MAILERS = {
    "default": env.mailer("EMAIL_URL", env.required("EMAIL_URL", "smtp://127.0.0.1:2525")),
}

# --- Django -------------------------------------------------------------------------------------
ROOT_URLCONF = "app.config.urls"
APPEND_SLASH = False
INSTALLED_APPS = [
    "app.config",
    "app.taskqueue",
    "app.authentication",
    "app.inventory",
    "app.orders",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "ninja",
]
MIDDLEWARE = [
    "app.common.middleware.InlineSecurityMiddleware",
    "app.common.middleware.InlineContentSecurityPolicyMiddleware",
]
AUTH_USER_MODEL = "authentication.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {}}
]
LOGGING_CONFIG = None  # app.telemetry.logging, at process start
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

# --- HTTP security ------------------------------------------------------------------------------
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.NONE],
}
SECURE_HSTS_SECONDS = 31_536_000 if PUBLIC_BASE_URL.startswith("https:") else 0
SECURE_REFERRER_POLICY = "no-referrer"
SILENCED_SYSTEM_CHECKS = [
    "security.W001",  # InlineSecurityMiddleware is that middleware, without its hops
    "security.W002",  # X-Frame-Options: the CSP's frame-ancestors says it
    "security.W003",  # CSRF: no cookie authenticates; browsers' refresh cookie has an Origin check
    "security.W005",  # other hosts of the operator's domain are not ours to decide for,
    "security.W021",  # nor is its place on the browsers' preload list
    "security.W008",  # the ingress redirects to https; probes speak http to the pod
]

REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "app.common.problems.drf_exception_handler",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
}
