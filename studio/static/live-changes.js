/**
 * Tells a page that something it shows has changed. Value: `{"of": "run-12", "since": STAMP}`: topics as the studio
 * names them, and what they were when the page was drawn; `every`, in ms, where news is expected soon.
 */

import { startOnce } from "./dom.js";
import { createPoll } from "./poll.js";
import { readReply } from "./reply.js";

const LOST = "The studio cannot be reached. It is tried again; what you typed stays.";
const SIGNED_OUT = "You are signed out. Reload this page to sign in again.";

/** The new stamp of topics, or null where nothing changed since `stamp`. */
export async function askStudio(of, stamp) {
  const query = new URLSearchParams(stamp === null ? { of } : { of, since: stamp });
  const reply = await fetch(`/ui/changes?${query}`, { cache: "no-store" });
  return reply.status === 204 ? null : (await readReply(reply)).stamp;
}

/** Why there is no answer: the studio is away, it asks who is there, or it says itself what is wrong. */
export function troubleInWords(error) {
  if (error.status === 401) return SIGNED_OUT;
  return error.refused && error.status < 500 ? error.message : LOST;
}

/** The widget: `select` events of Gradio carry `{of, stamp}`. */
export function start(element, props, trigger, watch) {
  startOnce(element.querySelector(".hy-live"), (line) => {
    let of = "";
    const poll = createPoll({
      ask: (stamp) => askStudio(of, stamp),
      onChange: (stamp) => trigger("select", { of, stamp }),
      onReach: (error) => {
        line.textContent = error === null ? "" : troubleInWords(error);
      },
      isHidden: () => document.hidden,
      clock: { set: (act, ms) => setTimeout(act, ms), clear: (timer) => clearTimeout(timer) },
    });
    const follow = () => {
      const next = props.value?.of ?? "";
      poll.pace(props.value?.every);
      if (next === of) return;
      of = next;
      if (of) poll.start(props.value?.since ?? null);
      else poll.stop();
    };
    document.addEventListener("visibilitychange", () => of && poll.turn());
    watch("value", follow);
    follow();
  });
}
