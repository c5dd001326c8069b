/** What is asked: a question with everything that answers it, the same again, without an expert, beside the base. */

import { send } from "./requests.js";

const NO_RUN = "This run cannot answer any more. Open another one.";
const EMPTY = "The message is empty. Write something first.";
const LOOK_AGAIN = 100; // ms, while an answer is written

export class Questions {
  /**
   * @param {object} state Of the chat.
   * @param {object} parts What a question is put together from: `choices`, `settings`, `experts`, `examples`,
   *   `composer`.
   * @param {{open: (id: number) => Promise, reload: () => *}} acts
   */
  constructor(state, parts, acts) {
    Object.assign(this, { state, acts }, parts);
  }

  /** What answers now, as the studio takes it. */
  variant() {
    const step = this.choices.step.value;
    return {
      ...(this.state.run ? { run_id: this.state.run.id } : {}),
      ...(step ? { step: Number(step) } : {}),
      settings: this.settings.asked(),
      ...this.experts.asked(),
    };
  }

  /** Lets the model server load what will probably be asked; a failure is told when it is asked. */
  warm() {
    if (!this.state.noRun) send("/warm", this.variant()).catch(() => undefined);
  }

  async ask(text) {
    if (this.state.noRun) throw new Error(NO_RUN);
    if (!text.trim()) throw new Error(EMPTY);
    if (!this.state.current) this.state.current = (await send("/conversations")).id;
    const path = `/conversations/${this.state.current}`;
    const compared = this.choices.compared();
    const variants = [this.variant()];
    if (compared) variants.push({ ...compared, settings: this.settings.asked() });
    await this.#saveSystem(path);
    await send(`${path}/ask`, { text, variants });
    this.composer.clear();
    await this.acts.open(this.state.current);
    this.acts.reload();
  }

  async #saveSystem(path) {
    const { system } = this.settings;
    if (system.value === system.dataset.saved) return;
    await send(path, { system: system.value });
    system.dataset.saved = system.value;
  }

  async again(message) {
    if (this.state.noRun) throw new Error(NO_RUN);
    const body = { question_id: message.reply_to, variants: [this.variant()] };
    await send(`/conversations/${this.state.current}/ask`, body);
    await this.acts.open(this.state.current);
  }

  /** The example that this expert would answer most of, with all experts and then without it. */
  async askWithout(expert) {
    if (!this.state.messages.some((message) => message.role === "user")) await this.ask(await this.examples.at(0));
    await this.#settled();
    this.experts.mute(expert);
    await this.again(this.state.messages.findLast((message) => message.role === "assistant"));
  }

  async askWithBase() {
    const question = this.state.messages.findLast((message) => message.role === "user");
    this.choices.compare.value = "base";
    this.experts.reset();
    await this.ask(question?.text ?? (await this.examples.at(0)));
  }

  /** Waits until no answer is being written. */
  async #settled() {
    while (this.state.messages.some((message) => message.state === "writing")) {
      await new Promise((go) => setTimeout(go, LOOK_AGAIN));
    }
  }

  /** Takes a question and what came after it back into the message box. */
  async edit(question) {
    const { text } = await send(`/messages/${question.id}/cut`);
    await this.acts.open(this.state.current);
    this.composer.write(text);
  }

  async stopAll() {
    for (const { id, state } of this.state.messages) if (state === "writing") await send(`/answers/${id}/stop`);
  }
}
