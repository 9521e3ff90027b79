// Puts what the controller sends into the page's parts, and counts down. The page is whole without it.
"use strict";
const stale = document.getElementById("stale");
// Every 2 s the controller says at least that it lives; after a read that hangs it says within 12 s that it cannot read.
const SILENT_MS = 15000;
let received = performance.now();

function countDown() {
  const passed = performance.now() - received;
  for (const span of document.querySelectorAll("[data-left-ms]")) {
    const left = Math.max(0, Number(span.dataset.leftMs) - passed);
    span.textContent = left === 0 ? "being undone" : Math.ceil(left / 1000) + " s";
    const meter = span.parentElement.querySelector("meter");
    if (meter) meter.value = left;
  }
}

function follow(path) {
  const source = new EventSource(path);
  // When what is shown was known to be true, and when anything was heard at all.
  let last = new Date();
  let heard = performance.now();
  const good = () => { last = new Date(); heard = performance.now(); stale.hidden = true; };
  const old = (why) => {
    stale.textContent = why + ": what you see is from " + last.toLocaleTimeString() + " and may be wrong.";
    stale.hidden = false;
  };
  const put = (event) => {
    const part = document.querySelector('[data-part="' + event.type + '"]');
    if (part && !part.contains(document.activeElement)) part.innerHTML = event.data;
    else if (part && event.type === "middle") part.innerHTML = event.data;
    if (event.type === "middle") { good(); received = performance.now(); countDown(); }
  };
  for (const part of document.querySelectorAll("[data-part]")) source.addEventListener(part.dataset.part, put);
  source.addEventListener("alive", good);
  source.addEventListener("stale", () => { heard = performance.now(); old("The controller cannot read its records"); });
  const watch = setInterval(() => { if (stale.hidden && performance.now() - heard > SILENT_MS) old("The controller says nothing"); }, 1000);
  source.addEventListener("over", () => { clearInterval(watch); source.close(); });
  source.addEventListener("gone", () => { source.close(); location.reload(); });
  source.onerror = () => old("The controller does not answer");
}

setInterval(countDown, 250);
if (document.body.dataset.live) follow(document.body.dataset.live);
