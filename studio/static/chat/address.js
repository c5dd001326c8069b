/** What the chat's address asks for. */

const LISTED = 200; // conversations in the list; an older one can still be opened

/** An id of the address: null where there is none, NaN where it is no whole number. */
export function idInAddress(address, name) {
  const value = new URL(address).searchParams.get(name);
  if (!value) return null;
  return /^\d+$/.test(value) ? Number(value) : NaN;
}

/** The address with these ids; those that are null are left out. */
export function withIds(address, ids) {
  const url = new URL(address);
  for (const [name, id] of Object.entries(ids)) {
    if (id) url.searchParams.set(name, id);
    else url.searchParams.delete(name);
  }
  return url;
}

/**
 * Who answers and which conversation is open, by an address; without a run it is the untuned starter.
 *
 * @returns {{run: object|null, noRun: boolean, conversation: number|null, noConversation: boolean}} `noRun` and
 *   `noConversation` where the address asks for what does not exist.
 */
export function chosenBy(address, runs, conversations) {
  const [run, conversation] = ["run", "conversation"].map((name) => idInAddress(address, name));
  const found = runs.find((one) => one.id === run) ?? null;
  const isListed = conversations.some((one) => one.id === conversation);
  const isThere = conversation > 0 && (isListed || conversations.length >= LISTED);
  return {
    run: found,
    noRun: run !== null && found === null,
    conversation: isThere ? conversation : null,
    noConversation: conversation !== null && !isThere,
  };
}
