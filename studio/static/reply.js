/** Replies of the studio's own addresses. */

/** What a refused reply says, as one sentence. */
export function sentence(body, status) {
  return typeof body?.detail === "string" ? body.detail : `The studio answered with ${status}.`;
}

/**
 * The JSON of a reply.
 *
 * @throws {Error} With the studio's sentence and `refused: true`, when the reply is a refusal.
 */
export async function readReply(reply) {
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw Object.assign(new Error(sentence(body, reply.status)), { refused: true, status: reply.status });
  return body;
}
