"""Query strings, read the same way by v1 and v2."""

from django.http import HttpRequest

from app.common.pagination import bad_parameter


def read_query(request: HttpRequest, *allowed: str) -> dict[str, str]:
    """The query parameters, each known and given once. Raises BadRequest."""
    query = {}
    for name, values in request.GET.lists():
        if name not in allowed:
            known = f"Known here: {', '.join(allowed) or 'none'}."
            raise bad_parameter(name, "unknown_parameter", known)
        if len(values) > 1:
            raise bad_parameter(name, "repeated_parameter", "Give it once.")
        query[name] = values[0]
    return query
