/** Loaded before everything else, as a classic script: keeps the ids of what is touched until the modules load. */

{
  const kept = document.documentElement.dataset;
  kept.touched = "";
  const note = (event) => {
    if (kept.touched === undefined) return; // the modules listen themselves now
    for (let around = event.target; around; around = around.parentElement) {
      if (around.id) kept.touched += ` ${around.id}`;
    }
  };
  for (const kind of ["input", "change"]) document.addEventListener(kind, note, { capture: true });
}
