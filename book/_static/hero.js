// Plays the figure of the experiment once, when it comes into sight, unless the reader wants no motion.

addEventListener("DOMContentLoaded", () => {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const figure of document.querySelectorAll(".schematic.moving")) {
    const again = figure.querySelector("button");
    const play = () => {
      figure.classList.remove("playing");
      figure.getBoundingClientRect(); // so that the browser begins anew
      figure.classList.add("playing");
    };
    again.hidden = false;
    again.addEventListener("click", play);
    const watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      play();
    });
    watch.observe(figure);
  }
});
