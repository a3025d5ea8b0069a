// Says whether the page is still told of changes, goes on from a page that only leads on; htmx does the
// rest.
"use strict";
const SILENCE_MS = 15000; // beats come every 5 s
let heardAt = new Date(), silence, source;

document.addEventListener("htmx:sseOpen", event => {
  source = event.detail.source;
  source.addEventListener("beat", heard);
  source.addEventListener("change", heard);
  heard();
});
document.addEventListener("htmx:sseError", event => {
  source = event.detail.source;
  // One that only broke off is opened again by the browser; the silence tells if that does not work.
  if (source.readyState === EventSource.CLOSED) lost();
});
silence = setTimeout(lost, SILENCE_MS);

const onward = document.getElementById("onward");
if (onward) location.replace(onward.href);

function heard() {
  heardAt = new Date();
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MS);
  tell("live", false);
}

async function lost() {
  const watched = document.querySelector("[sse-connect]");
  if (!watched) return;
  tell(`not live: last heard ${heardAt.toLocaleTimeString()}`, true);
  // Over a line that is half dead nothing comes, and nothing fails either.
  clearTimeout(silence);
  silence = setTimeout(again, SILENCE_MS);
  const asked = await fetch(watched.getAttribute("sse-connect"), { method: "HEAD" }).catch(() => null);
  if (asked?.status === 401) leave(watched);
}

function again() {
  const watched = document.querySelector("[sse-connect]");
  if (!watched) return;
  // Of one that was refused htmx takes care.
  if (source && source.readyState !== EventSource.CLOSED) {
    source.close();
    const anew = watched.cloneNode(true);
    watched.replaceWith(anew);
    htmx.process(anew);
  }
  lost();
}

function leave(watched) {
  clearTimeout(silence);
  if (source) source.close();
  watched.remove();
  tell("signed out: ", true);
  const link = document.createElement("a");
  link.href = "/enter?next=" + encodeURIComponent(location.pathname + location.search);
  link.textContent = "sign in again";
  document.getElementById("live").append(link);
}

// What stands there already is not said again: it is read out.
function tell(text, lost) {
  const place = document.getElementById("live");
  if (!place || place.textContent === text) return;
  place.textContent = text;
  place.classList.toggle("bad", lost);
}
