/** A Realtime client's socket → the answer that no channel can be joined: the local stack has no Realtime.
 *
 * If the socket could not be opened, the browser's console would show an error; a client that gets this answer can read instead. */

const REASON = "the local stack has no Realtime: read again instead";

/** One message of the protocol, of which there are two spellings. */
interface Message {
  joinRef: unknown;
  ref: unknown;
  topic: unknown;
  event: unknown;
}

export function declineChannels(request: Request, url: URL): Response {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    return new Response(REASON, { status: 426 });
  }
  const isArray = url.searchParams.get("vsn") === "2.0.0";
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => {
    const message = read(data, isArray);
    if (message) socket.send(reply(message, isArray));
  };
  return response;
}

function read(data: unknown, isArray: boolean): Message | null {
  try {
    const given = JSON.parse(String(data));
    if (!isArray) return { joinRef: given.join_ref, ...given };
    const [joinRef, ref, topic, event] = given;
    return { joinRef, ref, topic, event };
  } catch {
    return null;
  }
}

/** Heartbeats and farewells are fine. */
function reply({ joinRef, ref, topic, event }: Message, isArray: boolean) {
  const payload = event === "phx_join"
    ? { status: "error", response: { reason: REASON } }
    : { status: "ok", response: {} };
  return JSON.stringify(
    isArray
      ? [joinRef, ref, topic, "phx_reply", payload]
      : { join_ref: joinRef, ref, topic, event: "phx_reply", payload },
  );
}
