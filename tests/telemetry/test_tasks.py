"""A task's span knows the request that caused it."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.telemetry import tasks
from app.telemetry.context import bind_request_id, request_id

tracer = trace.get_tracer("tests")


def send() -> dict[str, str]:
    bind_request_id("req-1")
    with (
        tracer.start_as_current_span("POST /checkout", kind=SpanKind.SERVER),
        tasks.sending("orders.email", "emails", "0-1") as headers,
    ):
        return dict(headers)


def run(headers: dict[str, str], *, attempt: int = 1, wait: float = 0.1) -> str:
    bind_request_id("")
    with tasks.running(
        path="orders.email",
        queue="emails",
        task_id="0-1",
        headers=headers,
        attempt=attempt,
        wait=wait,
    ):
        return request_id()


def test_a_prompt_first_run_is_a_child_of_the_enqueuer(spans: InMemorySpanExporter) -> None:
    seen = run(send())

    producer, server, consumer = spans.get_finished_spans()
    assert seen == "req-1"
    assert [producer.name, consumer.name] == ["send emails", "process emails"]
    assert consumer.parent is not None
    assert consumer.parent.span_id == producer.context.span_id
    assert consumer.context.trace_id == server.context.trace_id
    assert [link.context.span_id for link in consumer.links] == [producer.context.span_id]


@pytest.mark.parametrize(("attempt", "wait"), [(2, 0.1), (1, 61.0)])
def test_a_late_or_repeated_run_starts_its_own_trace_with_a_link(
    spans: InMemorySpanExporter, attempt: int, wait: float
) -> None:
    run(send(), attempt=attempt, wait=wait)

    producer, _, consumer = spans.get_finished_spans()
    assert consumer.parent is None
    assert consumer.context.trace_id != producer.context.trace_id
    assert [link.context.span_id for link in consumer.links] == [producer.context.span_id]


def test_a_failure_passes_through_and_marks_the_span(spans: InMemorySpanExporter) -> None:
    headers = send()
    with (
        pytest.raises(ValueError, match="boom"),
        tasks.running(
            path="orders.email", queue="emails", task_id="0-1", headers=headers, attempt=1, wait=0
        ),
    ):
        raise ValueError("boom")

    consumer = spans.get_finished_spans()[-1]
    assert consumer.status.status_code is StatusCode.ERROR
    assert consumer.attributes is not None
    assert consumer.attributes["error.type"] == "ValueError"


def test_garbage_headers_do_no_harm(spans: InMemorySpanExporter) -> None:
    assert run({"traceparent": "nonsense", "x-request-id": ""}) == ""
    assert len(spans.get_finished_spans()) == 1
