// Says which services answer, and makes the first call one that works from here.
"use strict";

for (const place of document.querySelectorAll("[data-origin]")) {
  place.textContent = location.origin;
}

async function look(item) {
  let up = false;
  try {
    up = (await fetch(item.dataset.health, { cache: "no-store" })).ok;
  } catch {
    // The edge itself does not answer.
  }
  item.classList.toggle("up", up);
  item.classList.toggle("down", !up);
  item.title = up ? "answers" : "does not answer";
}

function lookAtAll() {
  if (!document.hidden) document.querySelectorAll("[data-health]").forEach(look);
}

lookAtAll();
setInterval(lookAtAll, 10_000);
