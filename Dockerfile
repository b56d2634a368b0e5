# syntax=docker/dockerfile:1
# One image for web, worker, relay and jobs: `docker run IMAGE serve`, `… run_worker`, `… migrate`.
# Works with a read-only root and any uid; /tmp is the only place it may want to write to.

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM python:3.13-slim-trixie AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_MANAGED_PYTHON=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH
# The dependencies first: this layer changes only with the lock.
RUN --mount=from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=requirements/app.txt,target=/requirements.txt \
    uv venv --no-project /venv \
 && uv pip install --python /venv/bin/python --require-hashes --no-deps -r /requirements.txt
COPY app /app/app
# Bytecode is checked against the source's hash, so that a developer's live copy of the source still wins.
RUN /venv/bin/python -m compileall -q --invalidation-mode checked-hash /app/app

FROM python:3.13-slim-trixie
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONUNBUFFERED=1
COPY --link --from=build /venv /venv
COPY --link --from=build /app /app
WORKDIR /app
USER 10001:10001
EXPOSE 8000 9464
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve", "--host", "0.0.0.0"]

ARG VERSION=dev
ARG REVISION=unknown
ENV APP_VERSION=$VERSION
LABEL org.opencontainers.image.title="fashionistar" \
      org.opencontainers.image.description="Backend of a fashion marketplace: web, worker, relay and jobs" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
