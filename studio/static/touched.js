/** Fields that a person has touched; what the studio fills in by itself leaves them alone. */

/** The ids of fields that were touched. */
export class TouchedFields {
  #ids = new Set();

  /** A person has touched this node, and with it everything around it that has an id. */
  touch(node) {
    for (let around = node; around; around = around.parentElement) if (around.id) this.#ids.add(around.id);
  }

  keep(ids) {
    for (const id of ids) this.#ids.add(id);
  }

  forget(ids) {
    for (const id of ids) this.#ids.delete(id);
  }

  /**
   * The value for each id; undefined, which Gradio passes over, where there is none or the field was touched.
   *
   * @param {string[]} ids
   * @param {string} text Values by id as JSON, or nothing.
   */
  untouched(ids, text) {
    const values = text ? JSON.parse(text) : {};
    return ids.map((id) => (this.#ids.has(id) || !(id in values) ? undefined : values[id]));
  }

  /**
   * Notes what is typed and chosen; options of a list that Gradio opens send no event of their own.
   *
   * @param {EventTarget} target
   * @param {string} before Ids of what was touched before this could listen, with spaces between them.
   */
  listen(target, before = "") {
    this.keep(before.split(" ").filter(Boolean));
    for (const kind of ["input", "change"]) target.addEventListener(kind, (event) => this.touch(event.target), true);
    const chooses = (event) => event.target.closest?.("[role=option]");
    const confirms = (event) => event.key === "Enter" && event.target.closest?.("[role=listbox]");
    target.addEventListener("pointerdown", (event) => chooses(event) && this.touch(event.target), true);
    target.addEventListener("keydown", (event) => confirms(event) && this.touch(event.target), true);
  }
}
