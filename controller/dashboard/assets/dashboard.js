// Puts what the controller sends into the page's parts, and counts down. The page is whole without it.
"use strict";
const stale = document.getElementById("stale");
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
  let last = new Date();
  const put = (event) => {
    const part = document.querySelector('[data-part="' + event.type + '"]');
    if (part && !part.contains(document.activeElement)) part.innerHTML = event.data;
    else if (part && event.type === "middle") part.innerHTML = event.data;
    last = new Date();
    stale.hidden = true;
    if (event.type === "middle") { received = performance.now(); countDown(); }
  };
  source.addEventListener("middle", put);
  source.addEventListener("stop", put);
  source.addEventListener("alive", () => { last = new Date(); stale.hidden = true; });
  source.addEventListener("over", () => source.close());
  source.addEventListener("gone", () => { source.close(); location.reload(); });
  const doubt = (why) => {
    stale.textContent = why + ": what you see is from " + last.toLocaleTimeString() + " and may be wrong.";
    stale.hidden = false;
  };
  source.addEventListener("stale", () => doubt("The controller cannot read its records"));
  source.onerror = () => doubt("The controller does not answer");
}

setInterval(countDown, 250);
if (document.body.dataset.live) follow(document.body.dataset.live);
