// Search finds sections, not whole pages, and shows the words around what it found: from a file too.
// `book_sections`, from searchsections.js, holds [address, page, section, text] of each section.

(() => {
  if (typeof Search === "undefined" || typeof book_sections === "undefined") return;
  const AROUND = 110, // letters before and after a hit
    MOST = 60; // hits shown
  const plain = (text) => text.toLowerCase();

  function wordsOf(query) {
    const phrase = /^\s*"(.*)"\s*$/.exec(query);
    return (phrase ? [phrase[1]] : query.split(/\s+/)).map((word) => plain(word.trim())).filter(Boolean);
  }

  // The better, the more of the words stand in titles and the closer they stand to each other.
  function score(section, words, query) {
    const [, page, title, text] = section;
    const heads = plain(`${page} ${title}`),
      body = plain(text);
    if (!words.every((word) => heads.includes(word) || body.includes(word))) return 0;
    const inTitle = words.filter((word) => plain(title).includes(word)).length;
    const whole = body.includes(plain(query.trim())) || heads.includes(plain(query.trim()));
    const times = words.reduce((sum, word) => sum + Math.min(5, body.split(word).length - 1), 0);
    return 1 + 20 * inTitle + 10 * whole + times / words.length;
  }

  function extract(text, words, query) {
    const low = plain(text);
    let at = low.indexOf(plain(query.trim()));
    if (at < 0) at = Math.min(...words.map((word) => low.indexOf(word)).filter((place) => place >= 0));
    if (!Number.isFinite(at)) at = 0;
    const from = at <= AROUND ? 0 : text.indexOf(" ", at - AROUND) + 1;
    const last = text.lastIndexOf(" ", at + AROUND),
      to = at + AROUND < text.length && last > at ? last : text.length;
    return `${from ? "… " : ""}${text.slice(from, to)}${to < text.length ? " …" : ""}`;
  }

  // Text with the words marked, as nodes: nothing of the query is read as HTML.
  function marked(text, words) {
    const nodes = [],
      low = plain(text);
    if (low.length !== text.length) return [text];
    let from = 0;
    while (from < text.length) {
      const places = words.map((word) => [low.indexOf(word, from), word]).filter(([place]) => place >= 0);
      if (!places.length) break;
      const [place, word] = places.sort((a, b) => a[0] - b[0] || b[1].length - a[1].length)[0];
      const mark = document.createElement("mark");
      mark.textContent = text.slice(place, place + word.length);
      nodes.push(text.slice(from, place), mark);
      from = place + word.length;
    }
    return [...nodes, text.slice(from)];
  }

  Search.performSearch = (query) => {
    const place = document.getElementById("search-results"),
      words = wordsOf(query),
      found = [];
    if (!words.length) return;
    for (const section of book_sections) {
      const points = score(section, words, query);
      if (points) found.push([points, section]);
    }
    found.sort((a, b) => b[0] - a[0]);
    const count = document.createElement("p"),
      list = document.createElement("ul");
    count.className = "search-summary";
    count.setAttribute("role", "status");
    const noun = found.length === 1 ? "section" : "sections";
    count.textContent = found.length
      ? `${found.length} ${noun} with “${query.trim()}”`
      : `Nothing with “${query.trim()}”`;
    if (found.length > MOST) count.textContent += `; the best ${MOST} are shown`;
    list.className = "search";
    for (const [, [address, page, title, text]] of found.slice(0, MOST)) {
      const item = document.createElement("li"),
        link = document.createElement("a"),
        words_around = document.createElement("p");
      link.href = address;
      link.textContent = title === page ? page : `${page}: ${title}`;
      words_around.className = "context";
      words_around.append(...marked(extract(text, words, query), words));
      item.append(link, words_around);
      list.append(item);
    }
    place.replaceChildren(count, list);
  };
})();
