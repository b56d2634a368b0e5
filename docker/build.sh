#!/usr/bin/env bash
# Build the project's images with Docker (BuildKit): `docker/build.sh [fashionistar] [fashionistar-fakes]`, default both.
#
# Prints one name per image on stdout: NAME:dev-<id>. The tag is the image's own id, so new content is a new name, a
# chart given that name rolls its pods and makes a new migrate Job, and an unchanged tree changes nothing at all.
# NAME:dev always points at the newest. VERSION=1.2.3 labels the image and is the tag instead. Progress goes to stderr.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf '%s\n' "$*" >&2; exit 1; }

# A private engine stands beside this repository where no Docker is installed; any other Docker is as good.
engine=${SHARED:-../shared}/images/engine
if [ -x "$engine" ] && [ -z "${DOCKER_HOST:-}" ]; then
    if ! docker info >/dev/null 2>&1; then "$engine" start >&2; fi
    docker image inspect python:3.13-slim-trixie >/dev/null 2>&1 || "$(dirname "$engine")/make-bases" >&2
fi
command -v docker >/dev/null || die "docker is missing: install Docker Engine 23 or newer"
docker info >/dev/null 2>&1 || die "docker does not answer: start it, or set DOCKER_HOST"

revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ $# -gt 0 ] || set -- fashionistar fashionistar-fakes

for name in "$@"; do
    case $name in
        fashionistar) file=Dockerfile ;;
        fashionistar-fakes) file=docker/fakes/Dockerfile ;;
        *) die "unknown image $name: fashionistar or fashionistar-fakes" ;;
    esac
    args=()
    # A development image does not carry the revision: a commit that changes nothing in it must not rename it.
    [ -z "${VERSION:-}" ] || args=(--build-arg "VERSION=$VERSION" --build-arg "REVISION=$revision")
    DOCKER_BUILDKIT=1 docker build --progress "${PROGRESS:-auto}" --file "$file" --tag "$name:dev" "${args[@]}" . >&2
    id=$(docker image inspect --format '{{.Id}}' "$name:dev")
    id=${id#sha256:}
    tag=${VERSION:-dev-${id:0:12}}
    docker tag "$name:dev" "$name:$tag"
    printf '%s:%s\n' "$name" "$tag"
done
