// The program of the laboratory's worker; `make bundle` turns it into text, from which driver.js starts the worker.

import { engine } from "./engine.js";

const dispatch = engine((snapshot) => self.postMessage(snapshot), 40, 40);
self.onmessage = ({ data }) => dispatch(data);
self.postMessage({ ready: true });
