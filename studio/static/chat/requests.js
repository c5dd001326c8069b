/** The chat's addresses. */

import { readReply } from "../reply.js";

export const ROOT = "/ui/chat";

/** Asks for an address and gives its JSON. */
export async function read(path) {
  return readReply(await fetch(ROOT + path));
}

/** Sends a body to an address and gives its JSON. */
export async function send(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  return readReply(await fetch(ROOT + path, { method: "POST", headers, body: JSON.stringify(body) }));
}

/** Deletes what an address names. */
export async function remove(path) {
  return readReply(await fetch(ROOT + path, { method: "DELETE" }));
}
