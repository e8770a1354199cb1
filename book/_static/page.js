// What a page can do with its figures, tables, code and sidebar. Without this script all of it is there, only unfolded less.

document.documentElement.classList.add("quiet-code"); // folded code shows no bar where a switch stands for all

addEventListener("DOMContentLoaded", () => {
  const article = document.querySelector(".bd-article");
  if (!article) return;

  // One switch for all folded code of a page; the choice is kept for the next page.
  const folds = [...article.querySelectorAll("details.hide.above-input")];
  const lever = article.querySelector(".code-switch");
  const kept = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("code", value);
      return localStorage.getItem("code");
    } catch {
      return null; // a page from a file may have no store
    }
  };
  const showCode = (shown) => {
    for (const fold of folds) fold.open = shown;
    lever.setAttribute("aria-pressed", shown);
    lever.textContent = shown
      ? "Fold the code of figures again"
      : `Show all code (${folds.length} more ${folds.length === 1 ? "piece" : "pieces"})`;
  };
  if (!lever || !folds.length) document.documentElement.classList.remove("quiet-code");
  else {
    lever.hidden = false;
    showCode(kept() === "shown");
    lever.addEventListener("click", () => {
      const shown = lever.getAttribute("aria-pressed") !== "true";
      kept(shown ? "shown" : "folded");
      showCode(shown);
    });
  }

  // A link to a cell unfolds its code.
  const unfold = () => {
    const name = location.hash.startsWith("#cell-") ? decodeURIComponent(location.hash.slice(1)) : "";
    const fold = document.getElementById(name)?.querySelector("details.hide");
    if (fold) fold.open = true;
  };
  addEventListener("hashchange", unfold);
  for (const link of article.querySelectorAll("a.to-code")) link.addEventListener("click", () => setTimeout(unfold));
  unfold();

  // A figure, as large as it was drawn or as the window; Escape, a click or the button closes it.
  const stage = document.createElement("dialog");
  stage.id = "figure-stage";
  stage.innerHTML = '<form method="dialog"><button>Close</button></form><div class="room" tabindex="0"></div>';
  document.body.append(stage);
  const room = stage.querySelector(".room");
  room.addEventListener("click", () => stage.close());
  for (const link of article.querySelectorAll("figure .sheet a.enlarge"))
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || !stage.showModal) return;
      event.preventDefault();
      const large = link.querySelector("img").cloneNode();
      large.style = "";
      stage.setAttribute("aria-label", large.alt);
      room.replaceChildren(large);
      stage.showModal();
    });

  // Tables that fit stand in the page as they are, but the scorecard's own, which is very long. What is too wide or too
  // long keeps its frame, and a word above it says where it goes on.
  const boxes = [...article.querySelectorAll(".text_html, .sheet, .pst-scrollable-table-container, .scorecard-table")];
  const bar = document.querySelector(".bd-header-article");
  const hints = new Map();
  const measure = () => {
    article.style.setProperty(
      "--bar",
      `${bar && getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0}px`,
    );
    for (const box of boxes) {
      if (!box.clientWidth) continue; // folded away
      const free = box.matches(":not(.scorecard) > .scorecard-table, .text_html:has(> table.dataframe)");
      box.classList.toggle("fits", free);
      const right = box.scrollWidth > box.clientWidth + 1;
      if (right) box.classList.remove("fits");
      const down = !box.matches(".fits, .sheet") && box.scrollHeight > box.clientHeight + 1;
      const scrolls = right || (down && box.matches(".scorecard-table"));
      if (scrolls && !hints.has(box)) {
        const hint = document.createElement("p");
        hint.className = "scroll-hint";
        box.before(hint);
        hints.set(box, hint);
        if (!box.matches(".sheet")) {
          box.tabIndex = 0;
          box.setAttribute("role", "region");
          const title = box.querySelector("caption");
          if (!box.hasAttribute("aria-label"))
            box.setAttribute("aria-label", title ? title.textContent : `Table ${hints.size}`);
        }
      }
      if (!hints.has(box)) continue;
      hints.get(box).hidden = !scrolls;
      const ways = [right && "to the right", down && "below"].filter(Boolean).join(" and ");
      hints.get(box).textContent = `goes on ${ways}: scroll ${down ? "in the table" : "sideways →"}`;
    }
  };
  measure();
  article.addEventListener("toggle", measure, true); // what was folded can be measured now
  addEventListener("load", measure);
  addEventListener("resize", measure);
});

// Between 960 and 992 pixels the theme shows its sidebar, but its own button does not fold it there.
document.addEventListener(
  "click",
  (event) => {
    const between = matchMedia("(min-width: 960px) and (max-width: 991.98px)").matches;
    if (!between || !event.target.closest?.(".primary-toggle")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    document.querySelector("#pst-primary-sidebar").classList.toggle("pst-sidebar-hidden");
  },
  true,
);
