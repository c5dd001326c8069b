/** An answer while it is written: one JSON object a line, as the model server sends them. */

import { readReply } from "../reply.js";
import { ROOT } from "./requests.js";

/** The lines of an answer that is being written, as objects, as they come. */
export async function* followAnswer(id) {
  const reply = await fetch(`${ROOT}/answers/${id}`);
  if (!reply.ok) await readReply(reply);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const pieces = wholeLines(rest, value);
    rest = pieces.rest;
    yield pieces.lines.map((line) => JSON.parse(line));
  }
}

/** The lines that are complete after a further piece of a stream, and what is left for the next. */
export function wholeLines(rest, piece) {
  const lines = (rest + piece).split("\n");
  return { rest: lines.pop(), lines: lines.filter((line) => line.trim()) };
}

/**
 * Puts a line into its message.
 *
 * A line holds the whole message so far, or one token, or what is waited for, or how it ended; with the first token
 * come the names of the layers, and how many earlier messages did not fit.
 */
export function applyLine(message, line) {
  if (line.whole) Object.assign(message, line.whole);
  else if (line.text !== undefined) message.tokens.push([line.text, line.gates, line.id]);
  else if (line.end) {
    Object.assign(message, { state: line.end, error: line.error, details: line.details });
    message.text = message.tokens.map((token) => token[0]).join("");
  } else if (line.state) message.waiting = `${line.state} …`;
  if (line.layers) message.details = { ...message.details, dropped: line.dropped };
}
