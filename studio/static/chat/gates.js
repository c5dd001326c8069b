/** Routing weights: `gates` of a token are rows of layers, `(layers, experts)`; each row sums to 1. */

/** The mean of rows `(rows, experts)`. */
export function meanOf(rows) {
  return rows[0].map((_, expert) => rows.reduce((sum, row) => sum + row[expert], 0) / rows.length);
}

/** The expert with the largest share of a row. */
export function leaderOf(row) {
  return row.indexOf(Math.max(...row));
}

/**
 * The row that is shown of a token, or null where it has none.
 *
 * @param {number[][]|null} gates
 * @param {string} layer "all" for the mean of all layers, or the place of one.
 */
export function shownRow(gates, layer) {
  if (!gates?.length) return null;
  return layer === "all" ? meanOf(gates) : (gates[Number(layer)] ?? meanOf(gates));
}

/** The mean of every layer over tokens, `(layers, experts)`, or null where no token has gates. */
export function layerMeans(tokens) {
  const all = tokens.map((token) => token[1]).filter(Boolean);
  return all.length ? all[0].map((_, layer) => meanOf(all.map((gates) => gates[layer]))) : null;
}

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** `E1 60 %, E2 40 %` for a row. */
export function sharesInWords(row, names) {
  return row.map((share, expert) => `${names[expert]} ${percent(share)}`).join(", ");
}

/** A layer's name, shorter. */
export function shortLayer(name) {
  return name.replace("model.layers.", "layer ").replace("transformer.h.", "layer ");
}
