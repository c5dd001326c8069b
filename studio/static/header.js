/** The header and lists: the menu, and selects that open a page. Links are plain ones, signing out is a plain form. */

/** A select with `data-go` opens the page of its choice. */
export function goAtChoice() {
  document.addEventListener("change", ({ target }) => {
    if (target.matches?.("select[data-go]") && target.value) location.assign(target.value);
  });
}

/** The menu closes by Escape, and where somebody clicks or goes elsewhere. */
export function closeMenus() {
  const menus = () => document.querySelectorAll(".hy-menu[open]");
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of menus()) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  for (const kind of ["pointerdown", "focusin"]) {
    document.addEventListener(kind, ({ target }) => {
      for (const menu of menus()) if (!menu.contains(target)) menu.open = false;
    });
  }
}
