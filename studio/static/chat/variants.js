/** What answers, and how: a run or a base model, with experts changed in all or in single layers. */

import { shortLayer } from "./gates.js";

const isChanged = (change) => Object.keys(change.factors).length > 0 || change.force !== null;

/** Changes of experts by place: "" is every layer, otherwise the name of one. */
export class ExpertChanges {
  #places = {};

  /** The change at a place, to be read and written. */
  at(place) {
    return (this.#places[place] ??= { factors: {}, force: null });
  }

  /** A factor of 1 changes nothing and is left out. */
  setFactor(place, expert, factor) {
    const { factors } = this.at(place);
    if (factor === 1) delete factors[expert];
    else factors[expert] = factor;
  }

  clear() {
    this.#places = {};
  }

  /** The changes as the studio takes them: `{factors, force, layers}`, without what is unchanged. */
  asked() {
    const plain = ({ factors, force }) => ({ factors: { ...factors }, ...(force === null ? {} : { force }) });
    const layers = Object.entries(this.#places).filter(([place, change]) => place && isChanged(change));
    return {
      ...(this.#places[""] ? plain(this.#places[""]) : {}),
      ...(layers.length ? { layers: Object.fromEntries(layers.map(([name, change]) => [name, plain(change)])) } : {}),
    };
  }
}

function changeInWords(change, names) {
  const words = Object.entries(change.factors ?? {}).map(([expert, factor]) => {
    return (Number(factor) === 0 ? "without " : `${factor} × `) + names[expert];
  });
  if (change.force !== undefined && change.force !== null) words.push(`only ${names[change.force]}`);
  return words;
}

/** Who gave an answer, in words. */
export function answererInWords(message, runs, names) {
  const run = runs.find((one) => one.id === message.run_id);
  let name = "Base model";
  if (message.run_id) name = run ? `${run.name} (run ${run.id})` : `run ${message.run_id}`;
  if (message.settings.step) name += `, step ${message.settings.step}`;
  const layers = Object.entries(message.settings.layers ?? {});
  const inLayers = layers.flatMap(([layer, change]) => {
    return changeInWords(change, names).map((words) => `${words} in ${shortLayer(layer)}`);
  });
  return [name, ...changeInWords(message.settings, names), ...inLayers].join(", ");
}

/** Where the model server stands, in words. */
export function serverInWords(server) {
  if (!server) return "The model server is stopped; it starts with the next question.";
  if (server.has_made_room) return "A training run has the GPU; answers come from the CPU meanwhile.";
  if (!server.base) return "The model server is ready.";
  return `The model server has ${server.base} in memory; it leaves after ten minutes without a question.`;
}
