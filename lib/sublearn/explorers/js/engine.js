// Runs a laboratory in slices of time, as messages tell it to; in a worker or on the page, it is the same program.

import { workspace } from "./product.js";
import { laboratory } from "./training.js";

// Follow messages and `post` what is seen, at most each `every` ms, after `slice` ms of work at a time.
export function engine(post, slice, every) {
  let lab,
    playing = false,
    pace = Infinity,
    owed = 0,
    last = 0,
    posted = 0,
    shown = -1;
  const channel = new MessageChannel();
  channel.port1.onmessage = work;
  const again = () => (pace === Infinity ? channel.port2.postMessage(0) : setTimeout(work, 8));

  function report() {
    const snapshot = lab.snapshot();
    if (snapshot.points.length === shown)
      for (const part of [snapshot, snapshot.student, snapshot.control]) delete part.map;
    shown = snapshot.points.length;
    posted = performance.now();
    post({ ...snapshot, playing });
  }

  function work() {
    if (!playing) return;
    const start = performance.now();
    owed = pace === Infinity ? Infinity : Math.min(owed + (pace * (start - last)) / 1000, pace / 4 + 1);
    last = start;
    const phase = lab.phase;
    while (owed >= 1 && lab.phase === phase && performance.now() - start < slice) {
      lab.step();
      owed -= 1;
    }
    if (lab.phase === "done") playing = false;
    if (!playing || lab.phase !== phase || performance.now() - posted > every) report();
    if (playing) again();
  }

  const commands = {
    init: ({ digits }) => (lab = laboratory(digits, workspace())),
    configure({ config }) {
      playing = false;
      shown = -1;
      lab.configure(config);
      report();
    },
    play() {
      if (playing || lab.phase === "done") return;
      playing = true;
      last = performance.now();
      owed = 0;
      report();
      again();
    },
    pause() {
      playing = false;
      report();
    },
    pace: ({ steps }) => (pace = steps),
    step({ count }) {
      playing = false;
      if (lab.phase === "teacher") while (lab.phase === "teacher") lab.step();
      else for (let i = 0; i < count && lab.phase === "student"; i++) lab.step();
      report();
    },
    stop() {
      playing = false;
      channel.port1.close();
    },
  };
  return (message) => commands[message.do](message);
}
