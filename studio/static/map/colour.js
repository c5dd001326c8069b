/** Colours for WebGL. */

/** `#rrggbb` as three shares of 1; black where it is none. */
export function shares(text) {
  const found = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text.trim());
  return found ? found.slice(1).map((pair) => parseInt(pair, 16) / 255) : [0, 0, 0];
}
