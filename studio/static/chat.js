/** The chat: who speaks, token by token. */

import { button, make, startOnce } from "./dom.js";
import { chosenBy, idInAddress, withIds } from "./chat/address.js";
import { Conversations } from "./chat/conversations.js";
import { ExpertsPanel } from "./chat/experts-panel.js";
import { keepInSight } from "./chat/fit.js";
import { layOut } from "./chat/layout.js";
import { read, send } from "./chat/requests.js";
import { Choices, DrawSettings } from "./chat/settings.js";
import { applyLine, followAnswer } from "./chat/stream.js";
import { Thread } from "./chat/thread.js";
import { Tries } from "./chat/tries.js";
import { serverInWords } from "./chat/variants.js";
import { WeightsPanel } from "./chat/weights-panel.js";
import { rove } from "./roving.js";

const BASE_EXAMPLES = ["Hello!", "What does a cow say?", "Tell me a story."];
const NO_RUN = "This run cannot answer any more. Open another one.";
const BROKEN = "The connection broke. The answer goes on; reload the page to see it.";

class Chat {
  state = {
    runs: [],
    conversations: [],
    messages: [],
    names: [],
    layers: [],
    layer: "all",
    run: null,
    current: null, // id of the open conversation
    pinned: null, // id of the run on whose page this is
    noRun: false, // the run of the address cannot answer
    noConversation: false,
  };
  #followed = new Set(); // ids of answers that are being read

  /** @param {object|null} value `{run, layer}` on the page of a run, which answers then; else null. */
  constructor(value) {
    const { state } = this;
    state.pinned = value?.run ?? null;
    this.wanted = value?.layer ?? "";
    const guard = (work) => this.guard(work);
    this.alert = make("div", { role: "alert" });
    this.examples = make("div", { class: "hy-examples", role: "toolbar", "aria-label": "Examples" });
    this.exampleStop = rove(this.examples, "button");
    this.server = make("p", { class: "hy-quiet" });
    this.weights = new WeightsPanel(state);
    this.experts = new ExpertsPanel(state);
    this.settings = new DrawSettings();
    this.choices = new Choices(state);
    this.tries = new Tries(location, {
      ask: (place) => this.guard(() => this.ask(this.prompts[place] ?? ""))(),
      mute: (expert) => this.guard(() => this.askWithout(expert))(),
      compare: () => this.guard(() => this.askWithBase())(),
    });
    this.thread = new Thread(state, this.weights, {
      again: guard((message) => this.again(message)),
      edit: guard((question) => this.edit(question)),
    });
    this.conversations = new Conversations(state, {
      guard,
      open: (id) => this.open(id),
      changed: () => this.reload(),
      gone: () => this.leave(),
    });
    this.#compose();
    this.node = layOut(this);
    this.#listen();
  }

  // Parts

  #compose() {
    const placeholder = "Ask something. Enter sends, Shift+Enter makes a new line.";
    this.input = make("textarea", { rows: 2, placeholder, "aria-label": "Message", maxLength: 20000 });
    const ask = this.guard(() => this.ask(this.input.value));
    this.send = button("Send", ask, { class: "hy-btn main" });
    this.stop = button("Stop", this.guard(() => this.stopAll()), { hidden: true });
    this.create = button("+ New", this.guard(() => this.startConversation()));
    this.compose = make("div", { class: "hy-compose" }, this.input, this.send, this.stop);
  }

  #listen() {
    this.choices.run.addEventListener("change", () => this.chooseRun());
    this.choices.step.addEventListener("change", () => this.warm());
    this.choices.layer.addEventListener("change", () => this.chooseLayer());
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!this.send.disabled) this.send.click();
    });
  }

  /** Work whose error is shown above the thread. */
  guard(work) {
    return async (...args) => {
      this.alert.replaceChildren();
      try {
        await work(...args);
      } catch (error) {
        this.complain(error);
      }
    };
  }

  complain(error) {
    this.alert.replaceChildren(make("div", { class: "hy-note bad", textContent: error.message || String(error) }));
  }

  draw() {
    this.thread.update();
    const isWriting = this.state.messages.some((message) => message.state === "writing");
    this.stop.hidden = !isWriting;
    this.send.disabled = isWriting;
  }

  // The address. One that names nothing stays as it is, and nothing is chosen in its place, until somebody chooses.

  get isLost() {
    return this.state.noRun || this.state.noConversation;
  }

  /** What the address asks for is settled; `studio/pages/chat.py` has said what is wrong with it. */
  settle() {
    const problem = document.querySelector("#chat-problem");
    if (problem && !this.isLost) problem.style.display = "none";
  }

  setAddress() {
    if (this.isLost) return;
    const { run, current } = this.state;
    history.replaceState({}, "", withIds(location, { run: run?.id, conversation: current }));
  }

  // Choices

  /** A run answers on its own page. */
  chooseRun() {
    const ids = { run: this.choices.run.value, tab: "chat", conversation: this.state.current };
    if (ids.run) location.assign(withIds(new URL("/run", location), ids));
  }

  drawRun() {
    this.choices.drawRun();
    this.experts.reset();
    this.guard(() => this.drawExamples())();
    this.setAddress();
    this.warm();
  }

  async drawExamples() {
    const { run, noRun } = this.state;
    const prompts = noRun ? [] : run ? await read(`/examples/${run.id}`) : BASE_EXAMPLES;
    this.prompts = prompts;
    this.examples.replaceChildren(...(prompts.length ? [make("span", { textContent: "Try" })] : []));
    for (const text of prompts) {
      const example = button(text, this.guard(() => this.ask(text)));
      this.examples.append(example);
      this.exampleStop.add(example);
    }
  }

  chooseLayer() {
    this.state.layer = this.choices.layer.value;
    this.thread.recolour();
    this.showLast();
  }

  setLayers(names) {
    const { state } = this;
    if (!names?.length || state.layers.join() === names.join()) return;
    state.layers = names;
    if (state.pinned) state.layer = this.#wantedLayer();
    if (state.layer !== "all" && !names[Number(state.layer)]) state.layer = "all";
    this.choices.drawLayers();
    this.experts.draw();
  }

  #wantedLayer() {
    const place = this.state.layers.indexOf(this.wanted);
    return place < 0 ? "all" : String(place);
  }

  /** Another layer is chosen on the page of the run. */
  setLayer(name) {
    this.wanted = name ?? "";
    const place = this.#wantedLayer();
    if (place === this.state.layer) return;
    this.state.layer = place;
    this.thread.recolour();
    this.showLast();
  }

  /** The routing weights of the newest answer. */
  showLast() {
    this.weights.showAnswer(this.state.messages.findLast((message) => message.tokens?.length)?.tokens ?? []);
  }

  // Questions

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
    if (!text.trim()) throw new Error("The message is empty. Write something first.");
    if (!this.state.current) this.state.current = (await send("/conversations")).id;
    const path = `/conversations/${this.state.current}`;
    const compared = this.choices.compared();
    const variants = [this.variant()];
    if (compared) variants.push({ ...compared, settings: this.settings.asked() });
    await this.#saveSystem(path);
    await send(`${path}/ask`, { text, variants });
    this.input.value = "";
    await this.open(this.state.current);
    this.guard(() => this.reload())();
  }

  async #saveSystem(path) {
    const { system } = this.settings;
    if (system.value === system.dataset.saved) return;
    await send(path, { system: system.value });
    system.dataset.saved = system.value;
  }

  /** The example that this expert would answer most of, with all experts and then without it. */
  async askWithout(expert) {
    const { messages } = this.state;
    if (!messages.some((message) => message.role === "user")) await this.ask(this.prompts[0] ?? "");
    await this.#settled();
    this.experts.mute(expert);
    await this.again(this.state.messages.findLast((message) => message.role === "assistant"));
  }

  async askWithBase() {
    const question = this.state.messages.findLast((message) => message.role === "user");
    const text = question?.text ?? this.prompts[0] ?? "";
    this.choices.compare.value = "base";
    this.experts.reset();
    await this.ask(text);
  }

  /** Waits until no answer is being written. */
  async #settled() {
    while (this.state.messages.some((message) => message.state === "writing")) {
      await new Promise((go) => setTimeout(go, 100));
    }
  }

  /** An expert that the address names is muted from the start. */
  #muteByAddress() {
    const expert = idInAddress(location, "mute");
    if (expert !== null && expert < (this.state.run?.experts ?? 0)) this.experts.mute(expert);
  }

  async again(message) {
    if (this.state.noRun) throw new Error(NO_RUN);
    const body = { question_id: message.reply_to, variants: [this.variant()] };
    await send(`/conversations/${this.state.current}/ask`, body);
    await this.open(this.state.current);
  }

  async edit(question) {
    const { text } = await send(`/messages/${question.id}/cut`);
    await this.open(this.state.current);
    this.input.value = text;
    this.input.focus();
  }

  async stopAll() {
    for (const { id, state } of this.state.messages) if (state === "writing") await send(`/answers/${id}/stop`);
  }

  // Answers

  async follow(message) {
    if (this.#followed.has(message.id)) return;
    this.#followed.add(message.id);
    message.tokens = [];
    try {
      for await (const lines of followAnswer(message.id)) {
        for (const line of lines) {
          applyLine(message, line);
          this.setLayers(line.layers);
        }
        this.thread.grow(message);
        if (message.state === "writing") this.weights.showAnswer(message.tokens);
      }
    } catch (error) {
      this.complain(error.refused ? error : new Error(BROKEN));
    }
    this.#followed.delete(message.id);
    this.draw();
    this.weights.showAnswer(message.tokens ?? []);
  }

  // Conversations

  async startConversation() {
    const { id } = await send("/conversations");
    Object.assign(this.state, { current: id, messages: [], noConversation: false });
    this.settle();
    this.setAddress();
    await this.reload();
    this.draw();
    this.input.focus();
  }

  async open(id) {
    const { state } = this;
    const found = await read(`/conversations/${id}`);
    // An answer that is being read stays the object it is, since its tokens are appended to it.
    const followed = new Map(state.messages.filter((m) => this.#followed.has(m.id)).map((m) => [m.id, m]));
    state.messages = found.messages.map((message) => followed.get(message.id) ?? message);
    Object.assign(state, { current: id, noConversation: false });
    this.settle();
    this.settings.system.value = this.settings.system.dataset.saved = found.system;
    for (const message of state.messages) this.setLayers(message.details?.layers);
    this.setAddress();
    this.conversations.draw();
    this.draw();
    for (const message of state.messages) if (message.state === "writing") this.follow(message);
    this.showLast();
  }

  /** The open conversation was deleted. */
  async leave() {
    Object.assign(this.state, { current: null, messages: [] });
    await this.reload();
    this.draw();
  }

  async reload() {
    const { runs, conversations, names, server } = await read("/start");
    Object.assign(this.state, { runs, conversations, names });
    this.conversations.draw();
    this.server.textContent = serverInWords(server);
  }

  async begin() {
    const { state } = this;
    await this.reload();
    const wanted = chosenBy(location, state.runs, state.conversations);
    Object.assign(state, { run: wanted.run, noRun: wanted.noRun, noConversation: wanted.noConversation });
    this.choices.drawRuns();
    this.choices.drawLayers();
    this.drawRun();
    this.#muteByAddress();
    if (wanted.conversation !== null) await this.open(wanted.conversation);
    else {
      this.draw();
      this.weights.showNothing();
    }
  }
}

/** The widget: its value is `{run, layer}` where a run answers on its own page, else nothing. */
export function start(element, props, trigger, watch) {
  startOnce(element.querySelector(".hy-chat-root"), (root) => {
    let chat = null;
    const follow = () => {
      const { value } = props;
      if (chat) chat.setLayer(value?.layer);
      else if (value) {
        chat = new Chat(value.run ? value : null);
        root.append(chat.node);
        keepInSight(chat.node, root);
        chat.guard(() => chat.begin())();
      }
    };
    watch("value", follow);
    follow();
  });
}
