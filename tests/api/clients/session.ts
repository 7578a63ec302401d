// Drives a session by the client that openapi-typescript and openapi-fetch make of the document: create, watch, message,
// close, show and list. Types are checked by tsc before, so that each field named here is one of the document's.
import assert from "node:assert/strict";

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.d.ts";

type Event = components["schemas"]["Event"];

const [address, workspace, image] = process.argv.slice(2);
assert(address && workspace && image, "usage: session.ts ADDRESS WORKSPACE IMAGE");
const client = createClient<paths>({ baseUrl: address });
const signal = AbortSignal.timeout(100_000);

/** The events of a session, until its end. */
async function* events(id: string): AsyncGenerator<Event> {
  const { data, error } = await client.GET("/api/v1/container/sessions/{id}/events", {
    params: { path: { id } },
    parseAs: "stream",
    signal,
  });
  assert(data, `no stream: ${JSON.stringify(error)}`);
  let rest = "";
  for await (const chunk of data.pipeThrough(new TextDecoderStream())) {
    const messages = (rest + chunk).split("\n\n");
    rest = messages.pop() ?? "";
    for (const message of messages) {
      const text = message.match(/^data: (.*)$/m)?.[1];
      if (text) yield JSON.parse(text) as Event;
    }
  }
}

const created = await client.POST("/api/v1/container/sessions", {
  body: {
    workspace,
    image,
    program: { type: "command", argv: ["sh", "-c", 'echo up; read -r line; echo "got $line"; cat >/dev/null'] },
    keepOpen: true,
    limits: { memoryBytes: 64 * 1024 * 1024 },
    env: { GREETING: "hello" },
  },
  signal,
});
assert(created.data, `not created: ${JSON.stringify(created.error)}`);
const id = created.data.id;
assert.equal(created.response.status, 201);

const said: string[] = [];
let end: components["schemas"]["EndedEvent"] | undefined;
let seq = 0;
for await (const event of events(id)) {
  assert.equal(event.seq, ++seq, "events are numbered without gaps");
  switch (event.kind) {
    case "text":
      said.push(event.text.trimEnd());
      if (event.text.startsWith("up")) {
        const path = { id };
        const sent = await client.POST("/api/v1/container/sessions/{id}/messages", { params: { path }, body: { text: "hello" }, signal });
        assert(sent.data, `not sent: ${JSON.stringify(sent.error)}`);
      }
      if (event.text.startsWith("got")) {
        const path = { id };
        const closed = await client.POST("/api/v1/container/sessions/{id}/close", { params: { path }, body: { graceSecs: 30 }, signal });
        assert.equal(closed.response.status, 202);
      }
      break;
    case "ended":
      end = event;
      break;
  }
}
assert.deepEqual(said, ["up", "got hello"]);
assert(end, "the stream has no end");
assert.equal(end.status, "completed");
assert.equal(end.reason, "closed");
assert(end.summary.durationMs > 0);

const shown = await client.GET("/api/v1/container/sessions/{id}", { params: { path: { id } }, signal });
assert.equal(shown.data?.status, "completed");
assert.equal(shown.data.reason, "closed");
const listed = await client.GET("/api/v1/container/sessions", { params: { query: { status: "completed", limit: 10 } }, signal });
assert(listed.data?.items.some((session) => session.id === id), "the session is not in the list");
const nobody = await client.GET("/api/v1/container/sessions/{id}", { params: { path: { id: "0123456789ab" } }, signal });
assert.equal(nobody.error?.type, "urn:aigo:problem:not-found");
