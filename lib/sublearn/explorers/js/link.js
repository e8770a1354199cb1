// The state of a page's explorers in its address, as in #laboratory.aux_dim=10&results.factor=loss: what differs from
// how the page began. `at` names the explorer that a copied link leads to.

import { button, element } from "./controls.js";

const OURS = /^#(at=|[a-z]\w*\.\w+=)/;
const PAUSE = 250; // ms between a change and the new address

// A text for an address, and back; undefined where the text is no value of the same kind.
const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));
function readAs(example, text) {
  if (typeof example === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// What an address asks of parts { key, start, checks }: settings { key: { trait: value } }, `at`, and faults in words.
export function read(hash, parts) {
  const settings = {},
    faults = [];
  let at = null;
  if (!OURS.test(hash)) return { settings, faults, at };
  for (const [name, text] of new URLSearchParams(hash.slice(1))) {
    const [key, trait] = name === "at" ? [text] : name.split(".");
    const part = parts.find((one) => one.key === key);
    if (!part) faults.push(`The link asks for “${key}”, and no such explorer is on this page.`);
    else if (name === "at") at = key;
    else {
      const value = part.checks[trait] && readAs(part.start[trait], text);
      if (value !== undefined && part.checks[trait](value)) settings[key] = { ...settings[key], [trait]: value };
      else faults.push(`The link asks for ${trait} = “${text}”, which does not exist here: it stays as it was.`);
    }
  }
  return { settings, faults, at };
}

// The fragment of those parts { key, model, start, checks } that differ from their start.
export function fragment(parts, at = "") {
  const pairs = new URLSearchParams(at ? { at } : {});
  for (const { key, model, start, checks } of parts) {
    for (const trait of Object.keys(checks)) {
      const text = written(model.get(trait));
      if (text !== written(start[trait])) pairs.append(`${key}.${trait}`, text);
    }
  }
  return String(pairs);
}

// "results", and "results2" for a page's second explorer of that name.
export function keyed(modules) {
  const counts = {};
  return modules.map((name) => {
    counts[name] = (counts[name] || 0) + 1;
    return counts[name] > 1 ? `${name}${counts[name]}` : name;
  });
}

// Set every part as the page's address asks for; tell what could not be, once the explorers are shown.
export function follow(parts) {
  const { settings, faults, at } = read(location.hash, parts);
  for (const { key, model, start, checks } of parts) {
    for (const trait of Object.keys(checks)) model.set(trait, settings[key]?.[trait] ?? start[trait]);
  }
  return () => {
    const named = parts.find(({ key }) => key === at) || parts.find(({ key }) => settings[key]);
    for (const part of parts) part.say?.("");
    if (faults.length) (named || parts[0]).say?.(faults.join(" "));
    if (at) named.node.scrollIntoView();
  };
}

// Keep the address up to date while the reader changes something.
export function keep(parts) {
  let timer = 0;
  const write = () => {
    const text = fragment(parts);
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  };
  for (const { model, checks } of parts) {
    for (const trait of Object.keys(checks)) {
      model.on(`change:${trait}`, () => {
        clearTimeout(timer);
        timer = setTimeout(write, PAUSE);
      });
    }
  }
  addEventListener("hashchange", () => OURS.test(location.hash) && follow(parts)());
}

// A button in the corner of an explorer that copies a link to it as it is now.
export function copier(part, live) {
  const note = element("p", { class: "explorer-note", "aria-live": "polite" });
  part.say = (...words) => note.replaceChildren(...words);
  const copy = button("Copy link", async () => {
    const link = `${location.href.split("#")[0]}#${fragment([part], part.key)}`;
    try {
      await navigator.clipboard.writeText(link);
      part.say("The link to this setting is copied.");
    } catch {
      const field = element("input", { readonly: true, value: link, "aria-label": "Link to this setting" });
      part.say("Copy this link: ", field);
      field.select();
    }
  });
  live.querySelector(".explorer-title")?.after(note);
  live.append(element("div", { class: "explorer-link" }, copy));
}
