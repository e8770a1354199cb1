// Runs a laboratory: in a worker made from program text, or, where none starts, in short slices on the page.

import { workspace } from "./product.js";
import { laboratory } from "./training.js";

const PATIENCE = 3000; // ms until a worker that says nothing is given up

// Obey messages and `post` what is seen, at most each `every` ms, after `slice` ms of work at a time.
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

  function report(extra = {}) {
    const state = lab.snapshot();
    if (state.points.length === shown) for (const one of [state, state.student, state.control]) delete one.map;
    shown = state.points.length;
    posted = performance.now();
    post({ ...state, playing, ...extra });
  }

  function work() {
    if (!playing) return;
    const begun = performance.now();
    owed = pace === Infinity ? Infinity : Math.min(owed + (pace * (begun - last)) / 1000, pace / 4 + 1);
    last = begun;
    const phase = lab.phase;
    while (owed >= 1 && lab.phase === phase && performance.now() - begun < slice) {
      lab.step();
      owed -= 1;
    }
    if (lab.phase === "done") playing = false;
    if (!playing || lab.phase !== phase || performance.now() - posted > every) report();
    if (playing) again();
  }

  const orders = {
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
  return (message) => orders[message.do](message);
}

// What a worker does with its global scope.
export function serve(scope) {
  const obey = engine((state) => scope.postMessage(state), 40, 40);
  scope.onmessage = ({ data }) => obey(data);
  scope.postMessage({ ready: true });
}

function onPage(receive) {
  const obey = engine((state) => receive({ ...state, worker: false }), 32, 120);
  return { send: obey, stop: () => obey({ do: "stop" }) };
}

// Start a worker with `program`, the text of this module and what it imports; `receive` gets its states.
// Messages sent before it is decided where the work is done wait.
export function start(program, receive) {
  const waiting = [];
  let place = null,
    worker = null,
    timer = 0;
  const settle = (chosen) => {
    if (place) return;
    clearTimeout(timer);
    place = chosen;
    waiting.splice(0).forEach((message) => place.send(message));
  };
  const giveUp = () => {
    if (place) return;
    worker?.terminate();
    settle(onPage(receive));
  };
  try {
    const address = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
    worker = new Worker(address);
    worker.onerror = giveUp; // a forbidden worker raises nothing: it only sends this event
    worker.onmessage = ({ data }) => {
      if (data.ready) settle({ send: (message) => worker.postMessage(message), stop: () => worker.terminate() });
      else receive({ ...data, worker: true });
    };
    timer = setTimeout(giveUp, PATIENCE);
  } catch {
    giveUp();
  }
  return {
    send: (message) => (place ? place.send(message) : waiting.push(message)),
    stop() {
      clearTimeout(timer);
      if (place) place.stop();
      else worker?.terminate();
    },
  };
}
