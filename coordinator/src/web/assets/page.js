// Says whether the page is still told of changes; htmx does the rest.
"use strict";
document.addEventListener("htmx:sseOpen", () => tell("live", false));
document.addEventListener("htmx:sseError", () => tell("not told of changes: tries again", true));

function tell(text, lost) {
  const place = document.getElementById("live");
  if (!place) return;
  place.textContent = text;
  place.classList.toggle("bad", lost);
}
