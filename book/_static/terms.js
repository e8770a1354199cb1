// Shows a word's entry of the glossary beside it, on hover and on focus; Escape or leaving hides it.

addEventListener("DOMContentLoaded", () => {
  const note = document.createElement("div");
  note.id = "term-note";
  note.setAttribute("role", "tooltip");
  note.hidden = true;
  document.body.append(note);
  let shown = null,
    timer = 0;

  function hide() {
    clearTimeout(timer);
    shown?.removeAttribute("aria-describedby");
    shown = null;
    note.hidden = true;
  }

  function show(link) {
    hide();
    shown = link;
    note.textContent = link.dataset.preview;
    note.hidden = false;
    link.setAttribute("aria-describedby", note.id);
    const [box] = link.getClientRects(),
      width = document.documentElement.clientWidth,
      below = box.bottom + 6,
      above = box.top - note.offsetHeight - 6;
    const left = Math.max(8, Math.min(box.left, width - note.offsetWidth - 8));
    note.style.left = `${left}px`;
    note.style.top = `${below + note.offsetHeight > innerHeight && above > 0 ? above : below}px`;
  }

  // Between word and note the pointer may cross a gap.
  const leave = () => {
    timer = setTimeout(hide, 200);
  };
  for (const link of document.querySelectorAll("a.term")) {
    link.addEventListener("mouseenter", () => show(link));
    link.addEventListener("focus", () => show(link));
    link.addEventListener("mouseleave", leave);
    link.addEventListener("blur", hide);
  }
  note.addEventListener("mouseenter", () => clearTimeout(timer));
  note.addEventListener("mouseleave", leave);
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("scroll", hide, { passive: true });
});
