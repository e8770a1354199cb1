// Small parts of every explorer: elements, labeled native controls that are bound to a model, theme, size.

// An id that nothing else on the page has; each explorer has this module to itself, so that a counter would not do.
export const uniqueId = () => `explorer-${Math.random().toString(36).slice(2)}`;

// element("p", { class: "quiet" }, "text", child, ...); a property named on... is a listener.
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

// The same for SVG.
export function drawn(name, properties = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A number with so many digits behind the point, and never "-0.00".
export function fixed(value, digits = 2) {
  if (value == null) return "–";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

export const percent = (value) => (value == null ? "–" : `${Math.round(100 * value)}%`);

// A level's name as a reader would write it.
export const plain = (name) => String(name).replaceAll("_", " ");

// Calls `change` when the trait does, and once now.
export function follow(model, name, change) {
  const update = () => change(model.get(name));
  model.on(`change:${name}`, update);
  update();
}

export function assign(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

// A slider for the trait `name`, over the listed `values` (or those from low to high by step).
export function slider(model, name, label, values, format = String) {
  const id = uniqueId();
  const shown = element("span", { class: "explorer-value", "aria-hidden": "true" });
  const input = element("input", {
    id,
    type: "range",
    min: 0,
    max: values.length - 1,
    step: 1,
    "data-trait": name,
    oninput: () => assign(model, name, values[input.value]),
  });
  follow(model, name, (value) => {
    const nearest = values.reduce(
      (best, candidate, place) => (Math.abs(candidate - value) < Math.abs(values[best] - value) ? place : best),
      0,
    );
    input.value = nearest;
    shown.textContent = format(value);
    input.setAttribute("aria-valuetext", format(value));
  });
  return element("div", { class: "explorer-control" }, element("label", { for: id }, label), shown, input);
}

export function select(model, name, label, choices) {
  const id = uniqueId();
  const texts = choices.map((choice) => (Array.isArray(choice) ? choice : [choice, String(choice)]));
  const options = texts.map(([, text], place) => element("option", { value: place }, text));
  const input = element(
    "select",
    { id, "data-trait": name, onchange: () => assign(model, name, texts[input.value][0]) },
    ...options,
  );
  follow(
    model,
    name,
    (value) =>
      (input.value = Math.max(
        0,
        texts.findIndex(([choice]) => choice === value),
      )),
  );
  return element("div", { class: "explorer-control" }, element("label", { for: id }, label), input);
}

// Checkboxes for a trait that lists those of `choices` that are on.
export function checks(model, name, legend, choices) {
  const boxes = choices.map(([value, text]) => {
    const box = element("input", {
      type: "checkbox",
      "data-trait": name,
      value,
      onchange: () => {
        const others = model.get(name).filter((choice) => choice !== value);
        assign(
          model,
          name,
          choices
            .map(([choice]) => choice)
            .filter((choice) => (choice === value ? box.checked : others.includes(choice))),
        );
      },
    });
    follow(model, name, (values) => (box.checked = values.includes(value)));
    return element("label", {}, box, ` ${text}`);
  });
  return element("fieldset", { class: "explorer-control" }, element("legend", {}, legend), ...boxes);
}

export function radios(model, name, legend, choices) {
  const group = uniqueId();
  const boxes = choices.map(([value, text]) => {
    const box = element("input", {
      type: "radio",
      name: group,
      "data-trait": name,
      value,
      onchange: () => assign(model, name, value),
    });
    follow(model, name, (chosen) => (box.checked = chosen === value));
    return element("label", {}, box, ` ${text}`);
  });
  return element("fieldset", { class: "explorer-control" }, element("legend", {}, legend), ...boxes);
}

export function button(text, press, properties = {}) {
  return element("button", { type: "button", onclick: press, ...properties }, text);
}

export function folded(title, ...children) {
  return element("details", {}, element("summary", {}, title), ...children);
}

// A table of texts; `rows` may be replaced by calling the returned `fill`. The first cell of a row names it.
export function table(caption, head) {
  const body = element("tbody");
  const names = head.map((name) => element("th", { scope: "col" }, name));
  const made = element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...names)),
    body,
  );
  const cells = (row) =>
    row.map((cell, place) => (place ? element("td", {}, cell) : element("th", { scope: "row" }, cell)));
  const fill = (rows) => body.replaceChildren(...rows.map((row) => element("tr", {}, ...cells(row))));
  return {
    node: element("div", { class: "explorer-scroll", tabindex: 0, role: "region", "aria-label": caption }, made),
    fill,
  };
}

// A polite voice for screen readers; the same sentence is not said twice.
export function voice() {
  const node = element("p", { role: "status", class: "explorer-status" });
  return { node, say: (text) => node.textContent !== text && (node.textContent = text) };
}

// Calls `redraw(width)` when the node's width changes, at most once a frame.
export function sized(node, redraw) {
  let width = 0,
    request = 0;
  const observer = new ResizeObserver(([entry]) => {
    const next = Math.round(entry.contentRect.width);
    if (!next || next === width) return;
    width = next;
    cancelAnimationFrame(request);
    request = requestAnimationFrame(() => redraw(width));
  });
  observer.observe(node);
  return () => observer.disconnect();
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
