// The connection to the server: one WebSocket, and the next one a second after it has ended.
//
// Owns the socket, the banner that says that there is none, and the passing notices. Does not know what is said over
// the socket.

import { $, el } from "./dom.js";
import { t } from "./words.js";

const TRIES = 5; // without the server; then it is said to have ended
const TOAST_MS = 8000;
const SILENT_MS = 5000;

let socket = null;
let failures = 0;
let heardAt = 0;

/** `heed` is called with each message of the server. */
export function connect(heed) {
  socket = new WebSocket(new URL("live", location.href).href.replace(/^http/, "ws"));
  socket.addEventListener("message", (event) => {
    heardAt = performance.now();
    if (failures) count(0);
    heed(JSON.parse(event.data));
  });
  socket.addEventListener("close", () => {
    count(failures + 1);
    setTimeout(connect, 1000, heed);
  });
}

// The server says something every second, unless it stands still.
setInterval(() => {
  const isSilent = performance.now() - heardAt > SILENT_MS;
  if (socket?.readyState === WebSocket.OPEN && !failures && isSilent) count(1);
}, 1000);

function count(number) {
  failures = number;
  document.body.classList.toggle("lost", failures > 0);
  drawBanner();
}

export function drawBanner() {
  const text = failures ? t(failures < TRIES ? "lost" : "ended") : "";
  if ($("banner").textContent !== text) $("banner").textContent = text; // it is read out when it changes
}

/** Returns whether it could be; the person is told if not. */
export function send(message) {
  const isOpen = socket?.readyState === WebSocket.OPEN;
  if (isOpen) socket.send(JSON.stringify(message));
  else toast(t("notSent"));
  return isOpen;
}

export function toast(text) {
  const node = el("p", {}, text);
  $("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_MS);
}
