/** A figure's layout for the width that it is drawn at: names leave what is drawn most of the room. */

const PART = 0.36; // of the width, which names at the ends of lines take at most
const LEFT_PART = 0.3; // of it, which names at the left take at most
const NARROW = 480; // px
const FEW = 4; // ticks below a narrow figure
const LETTER = 6.6; // px of one
const BESIDE = 24; // px between the lines and the edge that are no name
const NAME = /^<b>(.*)<\/b>$/s;
const LETTERS = /&[^;]+;|./gsu; // an escaped one counts once

/** A name that has at most so many letters. */
export function shortened(text, most) {
  const letters = text.match(LETTERS) ?? [];
  return letters.length <= most ? text : `${letters.slice(0, Math.max(1, most - 1)).join("")}…`;
}

/** The layout with names as long as there is room for. */
export function fitted(layout, width) {
  if (!width) return layout; // it is not seen
  return withShortEnds(width < NARROW ? withShortNotes(withShortTicks(layout, width), width) : layout, width);
}

/** Notes on a ground of their own stand beside the axes of parallel coordinates, each in the room up to the next. */
function withShortNotes(layout, width) {
  const axes = layout.xaxis?.tickvals?.length ?? 0;
  if (!axes || !layout.annotations) return layout;
  const letters = Math.max(3, Math.floor((width / axes - BESIDE) / LETTER));
  const fit = (note) => (note.bgcolor ? { ...note, text: shortened(note.text, letters) } : note);
  return { ...layout, annotations: layout.annotations.map(fit) };
}

function withShortTicks(layout, width) {
  const { xaxis, yaxis } = layout;
  const letters = Math.floor((width * LEFT_PART) / LETTER);
  const ticktext = yaxis?.ticktext?.map((text) => shortened(text, letters));
  return {
    ...layout,
    ...(xaxis?.nticks ? { xaxis: { ...xaxis, nticks: Math.min(FEW, xaxis.nticks) } } : {}),
    ...(ticktext ? { yaxis: { ...yaxis, ticktext } } : {}),
  };
}

function withShortEnds(layout, width) {
  const right = layout.margin?.r ?? 0;
  const most = Math.floor(width * PART);
  if (right <= most || !layout.annotations) return layout;
  const letters = Math.floor((most - BESIDE) / LETTER);
  const isName = (note) => note.xanchor === "left" && NAME.test(note.text);
  const annotations = layout.annotations.map((note) => {
    return isName(note) ? { ...note, text: `<b>${shortened(NAME.exec(note.text)[1], letters)}</b>` } : note;
  });
  return { ...layout, margin: { ...layout.margin, r: most }, annotations };
}
