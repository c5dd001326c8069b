/** The chat: who speaks, token by token. */

import { button, make, startOnce } from "./dom.js";
import { chosenBy, idInAddress, withIds } from "./chat/address.js";
import { Composer } from "./chat/composer.js";
import { Conversations } from "./chat/conversations.js";
import { Examples } from "./chat/examples.js";
import { ExpertsPanel } from "./chat/experts-panel.js";
import { keepInSight } from "./chat/fit.js";
import { layOut } from "./chat/layout.js";
import { Questions } from "./chat/questions.js";
import { read, send } from "./chat/requests.js";
import { Choices, DrawSettings } from "./chat/settings.js";
import { applyLine, followAnswer } from "./chat/stream.js";
import { Thread } from "./chat/thread.js";
import { Tries } from "./chat/tries.js";
import { serverInWords } from "./chat/variants.js";
import { WeightsPanel } from "./chat/weights-panel.js";

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
  #begin = null;
  #begun = new Promise((go) => {
    this.#begin = go;
  });

  /** @param {object|null} value `{run, layer}` on the page of a run, which answers then; else null. */
  constructor(value) {
    const { state } = this;
    state.pinned = value?.run ?? null;
    this.wanted = value?.layer ?? "";
    const guard = (work) => this.guard(work);
    const ready = (work) => this.ready(work);
    const ask = ready((text) => this.questions.ask(text));
    this.alert = make("div", { role: "alert" });
    this.server = make("p", { class: "hy-quiet" });
    this.weights = new WeightsPanel(state);
    this.experts = new ExpertsPanel(state);
    this.settings = new DrawSettings();
    this.choices = new Choices(state);
    this.examples = new Examples(ask);
    this.composer = new Composer({ ask, stop: guard(() => this.questions.stopAll()) });
    const { choices, settings, experts, examples, composer } = this;
    this.questions = new Questions(state, { choices, settings, experts, examples, composer }, {
      open: (id) => this.open(id),
      reload: guard(() => this.reload()),
    });
    this.tries = new Tries(location, {
      ask: ready(async (place) => this.questions.ask(await this.examples.at(place))),
      mute: ready((expert) => this.questions.askWithout(expert)),
      compare: ready(() => this.questions.askWithBase()),
    });
    this.thread = new Thread(state, this.weights, {
      again: guard((message) => this.questions.again(message)),
      edit: guard((question) => this.questions.edit(question)),
    });
    this.conversations = new Conversations(state, {
      guard,
      open: (id) => this.open(id),
      changed: () => this.reload(),
      gone: () => this.leave(),
    });
    this.create = button("+ New", guard(() => this.startConversation()));
    this.node = layOut(this);
    this.choices.run.addEventListener("change", () => this.chooseRun());
    this.choices.step.addEventListener("change", () => this.questions.warm());
    this.choices.layer.addEventListener("change", () => this.chooseLayer());
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

  /** The same for what is asked: it waits until it is known who answers. */
  ready(work) {
    return this.guard(async (...args) => {
      await this.#begun;
      await work(...args);
    });
  }

  complain(error) {
    this.alert.replaceChildren(make("div", { class: "hy-note bad", textContent: error.message || String(error) }));
  }

  draw() {
    this.thread.update();
    this.composer.draw(this.state.messages.some((message) => message.state === "writing"));
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
    this.guard(() => this.examples.draw(this.state))();
    this.setAddress();
    this.questions.warm();
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

  /** An expert that the address names is muted from the start. */
  #muteByAddress() {
    const expert = idInAddress(location, "mute");
    if (expert !== null && expert < (this.state.run?.experts ?? 0)) this.experts.mute(expert);
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
    this.composer.write();
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
    try {
      await this.#open();
    } finally {
      this.#begin();
    }
  }

  async #open() {
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
