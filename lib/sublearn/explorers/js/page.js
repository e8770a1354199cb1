// Puts explorers where they belong: on a page without a kernel, each from its state in JSON, or into a live notebook.

// What anywidget gives a live notebook, for a page: the traits of one explorer.
export function staticModel(state) {
  const listeners = new Map();
  const told = (event) => [...(listeners.get(event) || [])].forEach((listener) => listener());
  return {
    get: (name) => state[name],
    set(name, value) {
      if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
      state[name] = value;
      told(`change:${name}`);
    },
    on: (event, listener) => listeners.set(event, [...(listeners.get(event) || []), listener]),
    save_changes() {},
    send() {},
  };
}

// Show a view in an element; the returned promise gives what ends it.
export async function show(view, model, el, program) {
  const live = document.createElement("div");
  live.className = "explorer-live";
  el.classList.add("explorer");
  el.append(live);
  const end = await view.render({ model, el: live, program });
  el.dataset.live = "";
  return () => {
    end?.();
    live.remove();
    delete el.dataset.live;
  };
}

// All explorers of a page; one that fails leaves its still picture where it is.
export function begin(views, program) {
  for (const node of document.querySelectorAll(".explorer[data-explorer]")) {
    const state = JSON.parse(node.querySelector("script").textContent);
    const model = (node.model = staticModel(state));
    show(views[node.dataset.explorer], model, node, program).catch((error) => {
      node.querySelector(".explorer-live")?.remove();
      console.error(error);
    });
  }
}
