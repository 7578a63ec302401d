"""Drives a session by the client that openapi-python-client makes of the document: create, watch, message, close, show, list.

Each event is read by the class that the document has for its kind, and must come out of it as it went in, without a field
that the class does not know.
"""

import json
import sys
from http import HTTPStatus

from aigo_client import Client, models
from aigo_client.api.sessions import close_session, create_session, get_session, list_sessions, send_message
from aigo_client.api.sessions import watch_session_events

DEADLINE = 60.0
AGENT = 'echo up; read -r line; echo "got $line"; cat >/dev/null'


def event_of(data: dict) -> object:
    """The event as an object of the class for its kind."""
    kind = "".join(part.capitalize() for part in data["kind"].split("_"))
    event = getattr(models, f"{kind}Event").from_dict(data)
    unknown = event.additional_properties
    assert not unknown, f"fields of {data['kind']} that the document does not name: {unknown}"
    again = event.to_dict()
    times = [{**found, "at": None} for found in (again, data)]
    assert times[0] == times[1], f"{data} came out as {again}"
    return event


def data_of(lines):
    """The data of each server-sent event."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def main(address: str, workspace: str, image: str) -> None:
    client = Client(base_url=address, timeout=DEADLINE, raise_on_unexpected_status=True)
    wanted = models.NewSession(
        workspace=workspace,
        image=image,
        program=models.CommandProgram(type_="command", argv=["sh", "-c", AGENT]),
        keep_open=True,
        limits=models.SessionLimits(memory_bytes=64 << 20),
    )
    created = create_session.sync_detailed(client=client, body=wanted)
    assert created.status_code == HTTPStatus.CREATED, created
    session = created.parsed.id

    said, end, count = [], None, 0
    path = f"/api/v1/container/sessions/{session}/events"
    with client.get_httpx_client().stream("GET", path) as stream:
        for data in data_of(stream.iter_lines()):
            event = event_of(data)
            count += 1
            assert event.seq == count, data
            if isinstance(event, models.TextEvent):
                said.append(event.text.strip())
                if said[-1] == "up":
                    sent = send_message.sync_detailed(session, client=client, body=models.NewMessage(text="hello"))
                    assert sent.status_code == HTTPStatus.ACCEPTED, sent
                else:
                    closed = close_session.sync_detailed(session, client=client, body=models.Close(grace_secs=30))
                    assert closed.status_code == HTTPStatus.ACCEPTED, closed
            if isinstance(event, models.EndedEvent):
                end = event
    assert said == ["up", "got hello"], said
    assert end is not None and end.reason == models.EndReason.CLOSED, end
    assert end.summary.duration_ms > 0, end

    shown = get_session.sync(session, client=client)
    assert shown.status == models.Status.COMPLETED and shown.reason == models.EndReason.CLOSED, shown
    assert shown.summary.to_dict() == end.summary.to_dict(), shown
    listed = list_sessions.sync(client=client, status=models.Status.COMPLETED, limit=10)
    assert session in [item.id for item in listed.items], listed
    rest = watch_session_events.sync(session, client=client, after=count - 1)
    assert [data["kind"] for data in data_of(rest.splitlines())] == ["ended"], rest
    nobody = get_session.sync_detailed("0123456789ab", client=client)
    assert nobody.status_code == HTTPStatus.NOT_FOUND, nobody
    assert nobody.parsed.type_ == "urn:aigo:problem:not-found", nobody.parsed


if __name__ == "__main__":
    main(*sys.argv[1:])
