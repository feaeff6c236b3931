// Polls by hand, for what no client would do on its own.

const POLL_ID = "X-Anycable-Poll-ID";

export const publicStream = (name) => JSON.stringify({ channel: "$pubsub", stream_name: name });
export const signedStream = (name) => JSON.stringify({ channel: "$pubsub", signed_stream_name: name });
export const subscribe = (identifier) => ({ command: "subscribe", identifier });

/** One request with commands; without an id it opens a session. */
export async function poll(node, { id, commands = [], signal } = {}) {
  const response = await fetch(node.poll, {
    method: "POST",
    headers: id === undefined ? {} : { [POLL_ID]: id },
    body: commands.length > 0 ? commands.map((command) => `${JSON.stringify(command)}\n`).join("") : undefined,
    signal,
  });
  const body = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    id: response.headers.get(POLL_ID),
    body,
    frames: body.split("\n").filter(Boolean).map((line) => JSON.parse(line)),
  };
}

export const ofType = (frames, type) => frames.filter((frame) => frame.type === type);
