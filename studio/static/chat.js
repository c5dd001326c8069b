/* The chat: who speaks, token by token. Text enters the page only through textContent. */
(() => {
  "use strict";
  const H = () => window.Hydra;
  const api = async (path, body, method) => {
    const options = body === undefined && !method ? {} : { method: method || "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}) };
    const reply = await fetch("/ui/chat" + path, options);
    const found = await reply.json().catch(() => ({}));
    if (!reply.ok) throw new Error(found.detail || found.error || "The studio answered with " + reply.status + ".");
    return found;
  };
  const percent = (x) => Math.round(100 * x) + " %";
  const alpha = (hex, a) => hex + Math.round(255 * a).toString(16).padStart(2, "0");

  function chat(element) {
    const { make, save } = H();
    const root = element.querySelector(".hy-chat-root");
    if (!root || root.dataset.wired) return;
    root.dataset.wired = "1";
    const state = { runs: [], conversations: [], current: null, run: null, layer: "all", messages: [], colours: [], names: [], changes: {}, open: new Set() };
    const url = new URL(location);
    const field = (label, input) => make("label", { class: "hy-field" }, make("span", { textContent: label }), input);
    const setUrl = () => {
      const u = new URL(location);
      for (const [k, v] of [["run", state.run?.id], ["conversation", state.current]]) v ? u.searchParams.set(k, v) : u.searchParams.delete(k);
      history.replaceState({}, "", u);
    };

    // Parts
    const list = make("div", { class: "list", role: "list" });
    const thread = make("div", { class: "hy-thread", tabIndex: 0, role: "log", "aria-live": "polite", "aria-label": "conversation" });
    const alertBox = make("div", { role: "alert" });
    const examples = make("div", { class: "hy-examples" });
    const input = make("textarea", { rows: 2, placeholder: "Ask something. Enter sends, Shift+Enter makes a new line.", "aria-label": "Message", maxLength: 20000 });
    const send = make("button", { type: "button", class: "hy-btn main", textContent: "Send" });
    const stop = make("button", { type: "button", class: "hy-btn", textContent: "Stop", hidden: true });
    const runSelect = make("select", { "aria-label": "Who answers" });
    const stepSelect = make("select", { "aria-label": "State of the run" });
    const compare = make("select", { "aria-label": "Compare with" });
    const layerSelect = make("select", { "aria-label": "Layer shown" });
    const number = (label, value, min, max, step) => make("input", { type: "number", value, min, max, step, "aria-label": label });
    const temperature = number("Temperature", 0, 0, 2, 0.1), topP = number("Top-p", 0.95, 0.05, 1, 0.05);
    const maxTokens = number("Longest answer", 96, 1, 4096, 1), seed = number("Seed", 0, 0, 2147483647, 1);
    const system = make("textarea", { rows: 2, "aria-label": "System text" });
    const whereSelect = make("select", { "aria-label": "Layers in which experts are changed" });
    const experts = make("div", {});
    const server = make("p", { class: "hy-quiet" });
    const bars = make("div", { "aria-live": "off" });
    const about = make("div", { class: "about" });

    const left = make("div", { class: "box side" }, make("h2", { textContent: "Conversations" }),
      make("button", { type: "button", class: "hy-btn", textContent: "+ New", onclick: () => newConversation() }), list);
    const middle = make("div", { class: "box" }, make("div", { class: "hy-picks" }, field("Who answers", runSelect), field("As it was", stepSelect), field("Compare with", compare), field("Colours show", layerSelect)),
      alertBox, thread, examples, make("div", { class: "hy-compose" }, input, send, stop));
    const settings = make("details", {}, make("summary", { textContent: "How answers are drawn" }),
      field("Temperature: 0 always takes the likeliest word", temperature), field("Top-p: only the likeliest words up to this share", topP),
      field("Longest answer (tokens)", maxTokens), field("Seed: same seed, same answer", seed), field("System text: said before every conversation turn", system));
    const right = make("div", { class: "box side" }, make("h2", { textContent: "Gate weights" }), bars, make("h2", { textContent: "Change the experts", id: "hy-experts-head" }),
      experts, make("h2", { textContent: "Settings" }), settings, about, server);
    root.append(make("div", { class: "hy-chat" }, left, middle, right));

    const complain = (error) => alertBox.replaceChildren(make("div", { class: "hy-note bad", textContent: error.message || String(error) }));
    const calm = () => alertBox.replaceChildren();
    const guard = (work) => async (...args) => { try { calm(); await work(...args); } catch (error) { complain(error); } };

    // Gate arithmetic
    const mean = (rows) => rows[0].map((_, e) => rows.reduce((sum, row) => sum + row[e], 0) / rows.length);
    const shown = (gates) => (!gates || !gates.length ? null : state.layer === "all" ? mean(gates) : gates[Number(state.layer)] || mean(gates));
    const leader = (row) => row.indexOf(Math.max(...row));
    const words = (row) => row.map((g, e) => state.names[e] + " " + percent(g)).join(", ");

    function barsFor(row, title) {
      if (!row) return bars.replaceChildren(make("p", { textContent: title || "Point at a word of an answer, or focus it with the Tab key, to see its gate weights." }));
      const rows = row.map((g, e) => {
        const fill = make("i", {});
        fill.style.cssText = `width:${Math.min(100, 100 * g)}%;background:${state.colours[e % 8]}`;
        return make("div", { class: "hy-gate" }, make("span", { textContent: state.names[e] }), make("span", { class: "track" }, fill), make("span", { textContent: percent(g) }));
      });
      bars.replaceChildren(make("p", { textContent: title }), ...rows);
    }

    function strip(gates) {
      if (!gates || gates.length < 2) return;
      const box = make("div", { class: "hy-strip", title: "One mark for each layer, first layer left: the leading expert" });
      box.style.gridTemplateColumns = `repeat(${gates.length},1fr)`;
      for (const row of gates) {
        const e = leader(row), mark = make("i", {});
        mark.style.background = alpha(state.colours[e % 8], 0.25 + 0.75 * Math.min(1, row[e]));
        box.append(mark);
      }
      bars.append(make("p", { textContent: "Leading expert of every layer, first layer left" }), box);
    }

    function showToken(text, gates) {
      const row = shown(gates);
      if (!row) return;
      barsFor(row, "“" + text.trim() + "”, " + (state.layer === "all" ? "mean of all layers" : "layer " + state.layers[Number(state.layer)]));
      strip(gates);
    }

    function runningMean(tokens) {
      const rows = tokens.map((t) => shown(t[1])).filter(Boolean);
      if (rows.length) { barsFor(mean(rows), "This answer so far, " + rows.length + " tokens"); strip(mean3(tokens)); }
    }
    const mean3 = (tokens) => {
      const full = tokens.map((t) => t[1]).filter(Boolean);
      return full.length ? full[0].map((_, l) => mean(full.map((g) => g[l]))) : null;
    };

    function tokenNode(token, other) {
      const [text, gates] = token, row = shown(gates);
      const node = make("button", { type: "button", class: "tok", textContent: text });
      if (row) {
        const e = leader(row), strength = Math.min(1, row[e]);
        const share = Math.max(0, (strength - 1 / row.length) / (1 - 1 / row.length || 1));
        node.style.background = alpha(state.colours[e % 8], 0.12 + 0.5 * share);
        node.style.borderBottomColor = state.colours[e % 8];
        node.setAttribute("aria-label", text + ": " + words(row));
        node.dataset.expert = state.names[e];
        const show = () => showToken(text, gates);
        for (const event of ["mouseenter", "focus", "click"]) node.addEventListener(event, show);
        node.title = words(row);
      } else { node.tabIndex = -1; }
      if (other) node.classList.add("diff");
      return node;
    }

    // Positions of b that are not part of the longest common subsequence of a and b.
    function different(a, b) {
      if (a.length * b.length > 1e6) return new Set(b.map((_, i) => i).filter((i) => a[i] !== b[i]));
      const longest = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
      for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--)
        longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
      const found = new Set();
      for (let i = 0, j = 0; j < b.length;) {
        if (i < a.length && a[i] === b[j]) { i++; j++; }
        else if (i < a.length && longest[i + 1][j] >= longest[i][j + 1]) i++;
        else found.add(j++);
      }
      return found;
    }

    // The first answer's words as this variant weighs them: orange where it finds them less likely, blue where more.
    function weighed(m, first) {
      const w = m.details?.weighed;
      if (!w || !first || w.of !== first.id) return m.details?.unweighed ? make("p", { class: "hy-quiet", textContent: m.details.unweighed }) : "";
      const log = (p) => Math.log(Math.max(p, 1e-4));
      const mean = (list) => list.reduce((sum, p) => sum + log(p), 0) / list.length;
      const gap = mean(w.here) - mean(w.own);
      const words = w.here.map((p, i) => {
        const change = log(p) - log(w.own[i]), strength = Math.min(1, Math.abs(change) / 3);
        const node = make("span", { textContent: first.tokens[i]?.[0] ?? "", title: `${percent(p)} here, ${percent(w.own[i])} in the first answer` });
        node.style.background = strength < 0.05 ? "" : alpha(change < 0 ? "#ff5e02" : "#1845fb", 0.1 + 0.5 * strength);
        return node;
      });
      const table = H().tableNode({ head: ["Token", "First answer", "Here"], rows: w.here.map((p, i) => [first.tokens[i]?.[0], w.own[i].toFixed(3), p.toFixed(3)]) }, "probabilities");
      return make("details", { class: "weighed" }, make("summary", { textContent: `The first answer's words would have been ${gap < -0.005 ? "less likely here" : gap > 0.005 ? "more likely here" : "as likely here"} (${gap.toFixed(2)} nats per token)` }),
        make("p", { class: "words" }, ...words), make("p", { class: "hy-quiet", textContent: "Orange: less likely here than in the first answer; blue: more likely. Point at a word for both probabilities." }), table);
    }

    function changeWords(change) {
      const changed = Object.entries(change.factors || {}).map(([e, f]) => (Number(f) === 0 ? "without " : f + " × ") + state.names[e]);
      if (change.force !== undefined && change.force !== null) changed.push("only " + state.names[change.force]);
      return changed;
    }
    const shortLayer = (name) => name.replace("model.layers.", "layer ").replace("transformer.h.", "layer ");

    function variantWords(m) {
      const run = state.runs.find((r) => r.id === m.run_id);
      let name = m.run_id ? (run ? run.name + " (run " + run.id + ")" : "run " + m.run_id) : "Base model";
      if (m.settings.step) name += ", step " + m.settings.step;
      const changed = changeWords(m.settings);
      for (const [layer, change] of Object.entries(m.settings.layers || {})) changed.push(...changeWords(change).map((w) => w + " in " + shortLayer(layer)));
      return changed.length ? name + ", " + changed.join(", ") : name;
    }

    function answerNode(m, first) {
      const body = make("div", { class: "body" });
      const reference = first && first !== m ? (first.tokens || []).map((t) => t[0]) : null;
      const odd = reference ? different(reference, (m.tokens || []).map((t) => t[0])) : new Set();
      (m.tokens || []).forEach((token, i) => body.append(tokenNode(token, odd.has(i))));
      if (m.state === "writing" && !(m.tokens || []).length) body.textContent = m.waiting || "…";
      if (m.state === "failed") body.append(make("div", { class: "hy-note bad", textContent: m.error || "It failed." }));
      if (m.state === "done" && !(m.tokens || []).length) body.textContent = "(an empty answer: the model stopped at once)";
      const notes = [];
      if (m.details?.dropped) notes.push(m.details.dropped + " earlier messages did not fit and were left out");
      if (m.details?.done === "length") notes.push("cut at the longest answer");
      if (m.state === "stopped") notes.push("stopped");
      if (m.details?.tokens_per_second) notes.push(m.details.tokens_per_second + " tokens/s");
      if (reference && m.state !== "writing") notes.push(odd.size ? "underlined: differs from the first answer" : "word for word the first answer");
      const acts = make("div", { class: "acts" });
      if (m.state !== "writing") {
        acts.append(make("button", { type: "button", class: "hy-btn", textContent: "Copy", onclick: () => navigator.clipboard?.writeText(m.text) }));
        if (!first || first === m) acts.append(make("button", { type: "button", class: "hy-btn", textContent: "Answer again", title: "Once more, with the experts and settings chosen on the right", onclick: guard(() => again(m.reply_to)) }));
      }
      return make("div", { class: "hy-msg assistant" }, make("div", { class: "who", textContent: variantWords(m) + (notes.length ? " · " + notes.join(" · ") : "") }), body, reference ? weighed(m, first) : "", acts);
    }

    function draw() {
      const groups = [];
      for (const m of state.messages) {
        if (m.role === "user") groups.push({ question: m, answers: [] });
        else groups.find((g) => g.question.id === m.reply_to)?.answers.push(m);
      }
      thread.replaceChildren();
      if (!groups.length) thread.append(make("div", { class: "hy-empty" }, make("b", { textContent: state.runs.length ? "Nothing said yet" : "No trained adapter yet" }),
        state.runs.length ? "Pick an example below, or write your own question." : "The base model can answer already. Train a run to see its experts speak."));
      for (const { question, answers } of groups) {
        thread.append(make("div", { class: "hy-msg user" }, make("div", { class: "who", textContent: "You" }), make("div", { class: "body", textContent: question.text }),
          make("div", { class: "acts" }, make("button", { type: "button", class: "hy-btn", textContent: "Edit", title: "Take it back into the box; what follows is removed", onclick: guard(() => edit(question)) }))));
        thread.append(make("div", { class: "hy-pair" }, ...answers.map((m) => answerNode(m, answers[0]))));
      }
      thread.scrollTop = thread.scrollHeight;
      const writing = state.messages.some((m) => m.state === "writing");
      stop.hidden = !writing;
      send.disabled = writing;
    }

    function drawLists() {
      list.replaceChildren(...state.conversations.map((c) => make("button", { type: "button", textContent: c.title, title: c.title, "aria-current": String(c.id === state.current), onclick: guard(() => open(c.id)) })));
      const current = state.conversations.find((c) => c.id === state.current);
      about.replaceChildren();
      if (current) about.append(
        make("button", { type: "button", class: "hy-btn", textContent: "Rename", onclick: guard(async () => { const title = prompt("New name of the conversation", current.title); if (title) { await api("/conversations/" + current.id, { title }); await reload(); } }) }), " ",
        make("a", { class: "hy-btn", href: "/ui/chat/conversations/" + current.id + "/export.md", textContent: "Markdown" }), " ",
        make("a", { class: "hy-btn", href: "/ui/chat/conversations/" + current.id + "/export.json", textContent: "JSON with gates" }), " ",
        make("button", { type: "button", class: "hy-btn danger", textContent: "Delete", onclick: guard(async () => { if (confirm("Delete “" + current.title + "” with all its messages?")) { await api("/conversations/" + current.id, undefined, "DELETE"); state.current = null; state.messages = []; await reload(); draw(); } }) }));
    }

    function drawRun() {
      const run = state.run, count = run ? run.experts : 0;
      state.changes = {};
      stepSelect.replaceChildren(...(run?.finished ?? true ? [make("option", { value: "", textContent: "at its end" })] : []), ...(run?.steps || []).map((s) => make("option", { value: s, textContent: "at step " + s })).reverse());
      drawExperts();
      const steps = run ? run.steps.map((s) => make("option", { value: "step:" + s, textContent: "the same run at step " + s })) : [];
      compare.replaceChildren(make("option", { value: "", textContent: "nothing" }), ...(run ? [make("option", { value: "base", textContent: "its base model, untuned" })] : []), ...steps,
        ...state.runs.filter((r) => r.id !== run?.id && r.finished).map((r) => make("option", { value: r.id, textContent: r.name + " (run " + r.id + ")" })));
      guard(drawExamples)();
      setUrl();
      api("/warm", variant()).catch(() => undefined);  // a failure is told when it is asked
    }

    // What is changed in the chosen place ("" is every layer).
    function change() { return state.changes[whereSelect.value || ""] ??= { factors: {}, force: null }; }
    function drawExperts() {
      const run = state.run, count = run ? run.experts : 0, chosen = whereSelect.value;
      experts.replaceChildren();
      whereSelect.replaceChildren(make("option", { value: "", textContent: "in every layer" }), ...(state.layers || []).map((n) => make("option", { value: n, textContent: "only in " + shortLayer(n) })));
      whereSelect.value = (state.layers || []).includes(chosen) ? chosen : "";
      if (!run || count < 2) experts.append(make("p", { textContent: run ? "This method has no router, so there is no expert to change." : "Choose a run with experts to mute, weaken or force them." }));
      else {
        const now = change();
        experts.append(make("p", { textContent: "0 mutes an expert, 1 leaves it. Then press “Answer again” below an answer." }), field("Where", whereSelect));
        for (let e = 0; e < count; e++) {
          const value = make("output", { textContent: now.factors[e] ?? 1 });
          const slider = make("input", { type: "range", min: 0, max: 2, step: 0.25, value: now.factors[e] ?? 1, "aria-label": "Strength of " + state.names[e] });
          slider.addEventListener("input", () => { value.textContent = slider.value; if (Number(slider.value) === 1) delete now.factors[e]; else now.factors[e] = Number(slider.value); });
          const dot = make("span", { class: "hy-dot" });
          dot.style.background = state.colours[e % 8];
          experts.append(make("div", { class: "hy-expert" }, make("span", {}, dot, state.names[e]), slider, value));
        }
        const force = make("select", { "aria-label": "Let one expert speak alone" }, make("option", { value: "", textContent: "all experts" }),
          ...Array.from({ length: count }, (_, e) => make("option", { value: e, textContent: "only " + state.names[e] })));
        force.value = now.force ?? "";
        force.addEventListener("change", () => { now.force = force.value === "" ? null : Number(force.value); });
        experts.append(field("Who may speak", force), make("button", { type: "button", class: "hy-btn", textContent: "Undo all changes", onclick: () => { state.changes = {}; drawExperts(); } }));
      }
    }

    async function drawExamples() {
      const prompts = state.run ? await api("/examples/" + state.run.id) : ["Hello!", "What does a cow say?", "Tell me a story."];
      examples.replaceChildren(...prompts.map((text) => make("button", { type: "button", class: "hy-btn", textContent: text, onclick: guard(() => ask(text)) })));
    }

    function setLayers(names) {
      if (!names?.length || state.layers?.join() === names.join()) return;
      state.layers = names;
      layerSelect.replaceChildren(make("option", { value: "all", textContent: "mean of all layers" }), ...names.map((n, i) => make("option", { value: i, textContent: shortLayer(n) })));
      if (state.layer !== "all" && !names[Number(state.layer)]) state.layer = "all";
      layerSelect.value = state.layer;
      drawExperts();
    }

    const drawSettings = () => ({ temperature: Number(temperature.value), top_p: Number(topP.value), max_tokens: Number(maxTokens.value), seed: Number(seed.value) });
    const isChanged = (c) => Object.keys(c.factors).length || c.force !== null;
    const clean = (c) => ({ factors: { ...c.factors }, ...(c.force === null ? {} : { force: c.force }) });
    const variant = () => {
      const everywhere = state.changes[""], layers = Object.entries(state.changes).filter(([n, c]) => n && isChanged(c)).map(([n, c]) => [n, clean(c)]);
      return { ...(state.run ? { run_id: state.run.id } : {}), ...(stepSelect.value ? { step: Number(stepSelect.value) } : {}), settings: drawSettings(),
        ...(everywhere ? clean(everywhere) : {}), ...(layers.length ? { layers: Object.fromEntries(layers) } : {}) };
    };

    async function newConversation() {
      const made = await api("/conversations", {});
      state.current = made.id; state.messages = [];
      await reload(); draw(); input.focus();
    }
    async function ensure() { if (!state.current) { const made = await api("/conversations", {}); state.current = made.id; } }

    async function ask(text) {
      if (!text.trim()) return complain(new Error("The message is empty. Write something first."));
      await ensure();
      const variants = [variant()];
      if (compare.value === "base") variants.push({ base_of: state.run.id, settings: drawSettings() });
      else if (compare.value.startsWith("step:")) variants.push({ run_id: state.run.id, step: Number(compare.value.slice(5)), settings: drawSettings() });
      else if (compare.value) variants.push({ run_id: Number(compare.value), settings: drawSettings() });
      if (system.value !== system.dataset.saved) { await api("/conversations/" + state.current, { system: system.value }); system.dataset.saved = system.value; }
      const made = await api("/conversations/" + state.current + "/ask", { text, variants });
      input.value = "";
      await open(state.current, made);
      guard(reload)();
    }
    async function again(questionId) {
      const made = await api("/conversations/" + state.current + "/ask", { question_id: questionId, variants: [variant()] });
      await open(state.current, made);
    }
    async function edit(question) {
      const found = await api("/messages/" + question.id + "/cut", {});
      await open(state.current);
      input.value = found.text; input.focus();
    }

    async function follow(m) {
      if (state.open.has(m.id)) return;
      state.open.add(m.id);
      m.tokens = [];
      try {
        const reply = await fetch("/ui/chat/answers/" + m.id);
        const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          rest += value;
          const lines = rest.split("\n");
          rest = lines.pop();
          for (const line of lines) if (line.trim()) take(m, JSON.parse(line));
          draw();
          if (m.state === "writing") runningMean(m.tokens);
        }
      } catch (error) { complain(new Error("The connection broke. The answer goes on; reload the page to see it.")); }
      state.open.delete(m.id);
      draw();
      runningMean(m.tokens || []);
    }
    function take(m, line) {
      if (line.whole) Object.assign(m, line.whole);
      else if (line.text !== undefined) m.tokens.push([line.text, line.gates, line.id]);
      else if (line.end) { m.state = line.end; m.error = line.error; m.details = line.details; m.text = m.tokens.map((t) => t[0]).join(""); }
      else if (line.state) m.waiting = line.state + " …";
      if (line.layers) { setLayers(line.layers); m.details = { ...m.details, dropped: line.dropped }; }
    }

    async function open(id, made) {
      const found = await api("/conversations/" + id);
      state.current = id;
      state.messages = found.messages;
      system.value = system.dataset.saved = found.system;
      for (const m of state.messages) setLayers(m.details?.layers);
      setUrl(); drawLists(); draw();
      for (const m of state.messages) if (m.state === "writing") follow(m);
      if (!made) { const last = state.messages.filter((m) => m.tokens?.length).pop(); last ? runningMean(last.tokens) : barsFor(null); }
    }

    async function reload() {
      const found = await api("/start");
      Object.assign(state, { runs: found.runs, conversations: found.conversations, colours: found.colours, names: found.names });
      drawLists();
      server.textContent = !found.server ? "The model server rests; it starts with the next question." : found.server.has_made_room ? "A training run has the GPU; answers come from the processor meanwhile." : found.server.base ? "The model server has " + found.server.base + " in memory; it leaves after ten minutes without a question." : "The model server is ready.";
    }

    whereSelect.addEventListener("change", drawExperts);
    stepSelect.addEventListener("change", () => api("/warm", variant()).catch(() => undefined));
    runSelect.addEventListener("change", () => { state.run = state.runs.find((r) => String(r.id) === runSelect.value) || null; drawRun(); });
    layerSelect.addEventListener("change", () => { state.layer = layerSelect.value; draw(); const last = state.messages.filter((m) => m.tokens?.length).pop(); if (last) runningMean(last.tokens); });
    send.addEventListener("click", guard(() => ask(input.value)));
    stop.addEventListener("click", guard(async () => { for (const m of state.messages) if (m.state === "writing") await api("/answers/" + m.id + "/stop", {}); }));
    input.addEventListener("keydown", (e) => { if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); if (!send.disabled) send.click(); } });

    guard(async () => {
      await reload();
      runSelect.replaceChildren(...state.runs.map((r) => make("option", { value: r.id, textContent: r.name + " (run " + r.id + ")" })), make("option", { value: "", textContent: "the starter, untuned" }));
      state.run = state.runs.find((r) => String(r.id) === url.searchParams.get("run")) || state.runs[0] || null;
      runSelect.value = state.run ? state.run.id : "";
      layerSelect.replaceChildren(make("option", { value: "all", textContent: "mean of all layers" }));
      drawRun();
      const wanted = Number(url.searchParams.get("conversation"));
      if (wanted && state.conversations.some((c) => c.id === wanted)) await open(wanted); else { draw(); barsFor(null); }
    })();
  }
  const wait = setInterval(() => { if (window.Hydra) { clearInterval(wait); window.Hydra.chat = chat; } }, 20);
})();
