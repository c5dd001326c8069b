/** Replies of the studio's own addresses. */

/** What a refused reply says, as one sentence. */
export function sentence(body, status) {
  return typeof body?.detail === "string" ? body.detail : `The studio answered with ${status}.`;
}

/**
 * The JSON of a reply.
 *
 * @throws {Error} With the studio's sentence and `refused: true`, when the reply is a refusal; another one when it
 *   broke off, as where its page is left.
 */
export async function readReply(reply) {
  const body = await reply.json().catch((error) => {
    if (reply.ok) throw error;
    return {}; // a refusal of somebody else's, as a proxy
  });
  if (!reply.ok) throw Object.assign(new Error(sentence(body, reply.status)), { refused: true, status: reply.status });
  return body;
}
