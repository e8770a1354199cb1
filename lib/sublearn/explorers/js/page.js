// Puts explorers where they belong: on a page without a kernel, each from its state in JSON, or into a live notebook.

import { copier, follow, keep, keyed } from "./link.js";

// What anywidget gives a live notebook, for a page: the traits of one explorer.
export function staticModel(state) {
  const listeners = new Map();
  const notify = (event) => [...(listeners.get(event) || [])].forEach((listener) => listener());
  return {
    get: (name) => state[name],
    set(name, value) {
      if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
      state[name] = value;
      notify(`change:${name}`);
    },
    on: (event, listener) => listeners.set(event, [...(listeners.get(event) || []), listener]),
    save_changes() {},
    send() {},
  };
}

// Show a view in an element; the returned promise gives what ends it.
export async function show(view, model, el) {
  const live = document.createElement("div");
  live.className = "explorer-live";
  el.classList.add("explorer");
  el.append(live);
  const end = await view.render({ model, el: live });
  el.dataset.live = "";
  return () => {
    end?.();
    live.remove();
    delete el.dataset.live;
  };
}

// All explorers of a page, set as its address says; one that fails leaves its still picture where it is.
export async function begin(views) {
  const nodes = [...document.querySelectorAll(".explorer[data-explorer]")];
  const keys = keyed(nodes.map((node) => node.dataset.explorer));
  const parts = nodes.map((node, place) => {
    const state = JSON.parse(node.querySelector("script").textContent),
      view = views[node.dataset.explorer];
    node.model = staticModel(state);
    return { node, view, key: keys[place], model: node.model, start: { ...state }, checks: view.address(state) };
  });
  const tell = follow(parts);
  keep(parts);
  const waiting = parts.map(async (part) => {
    try {
      await show(part.view, part.model, part.node);
      copier(part, part.node.querySelector(".explorer-live"));
    } catch (error) {
      part.node.querySelector(".explorer-live")?.remove();
      console.error(error);
    }
  });
  await Promise.all(waiting);
  tell();
}
