// Starts the engine of a laboratory in a worker or, where none starts, on the page.

import program from "./dist/worker.js";
import { engine } from "./engine.js";

const PATIENCE = 3000; // ms until a worker that says nothing is given up

function onPage(receive) {
  const dispatch = engine((snapshot) => receive({ ...snapshot, worker: false }), 32, 120);
  return { send: dispatch, stop: () => dispatch({ do: "stop" }) };
}

// Start an engine; `receive` gets its snapshots. Messages sent before it is decided where the work is done wait.
export function start(receive) {
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
