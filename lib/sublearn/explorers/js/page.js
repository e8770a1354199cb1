// Puts explorers where they belong: on a page without a kernel, each from its state in JSON, or into a live notebook.

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

// All explorers of a page; one that fails leaves its still picture where it is.
export function begin(views) {
  for (const node of document.querySelectorAll(".explorer[data-explorer]")) {
    const state = JSON.parse(node.querySelector("script").textContent);
    node.model = staticModel(state);
    show(views[node.dataset.explorer], node.model, node).catch((error) => {
      node.querySelector(".explorer-live")?.remove();
      console.error(error);
    });
  }
}
