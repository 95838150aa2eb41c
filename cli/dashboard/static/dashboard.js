// Comfort on top of pages that work without it: figures that stay fresh, keys for those who decide all day, charts that
// say what is under the pointer. Nothing here is needed to do anything.

const REFRESH_SECONDS = Number(document.body.dataset.refresh ?? 0);
const one = (selector, within = document) => within.querySelector(selector);
const all = (
  selector,
  within = document,
) => [...within.querySelectorAll(selector)];

// The same page once more, and each part marked data-live in place of the old one. As a document rather than as text,
// because nothing here may turn text into markup.
// Nothing moves under the hands of who is selecting, typing or has something open.
function refresh() {
  if (document.hidden || document.getSelection().type === "Range") return;
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.setRequestHeader("X-Refresh", "1");
  request.responseType = "document";
  request.onload = () => {
    if (request.status === 200 && request.response) exchange(request.response);
    else if (request.status === 401) location.reload();
  };
  request.send();
}

function exchange(fresh) {
  const here = one("tr.here")?.dataset.key;
  for (const part of all("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (
      next && part.outerHTML !== next.outerHTML &&
      !part.contains(document.activeElement) && !one("details[open]", part)
    ) part.replaceWith(document.adoptNode(next));
  }
  document.title = fresh.title;
  // What was waited for has come.
  if (!fresh.body.dataset.refresh) clearInterval(refreshing);
  if (here) {
    all("tr[data-key]").find((row) => row.dataset.key === here)?.classList.add(
      "here",
    );
  }
}

const refreshing = REFRESH_SECONDS
  ? setInterval(refresh, REFRESH_SECONDS * 1000)
  : 0;

const GO = {
  o: "/",
  f: "/fraud",
  d: "/disputes",
  a: "/accounts",
  s: "/subscriptions",
  i: "/inbox",
  n: "/notifications",
  w: "/worker",
  h: "/doctor",
};
let going = false;

function move(step) {
  const rows = all("tr[data-key]");
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("here"));
  const next =
    rows[Math.min(Math.max(at < 0 ? 0 : at + step, 0), rows.length - 1)];
  rows[at]?.classList.remove("here");
  next.classList.add("here");
  next.scrollIntoView({ block: "nearest" });
  one("a", next)?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (
    event.ctrlKey || event.metaKey || event.altKey ||
    event.target.closest("input, textarea, select")
  ) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (going && GO[event.key]) location.assign(GO[event.key]);
  going = event.key === "g";
  if (event.key === "j") move(1);
  if (event.key === "k") move(-1);
  const field = event.key === "/"
    ? one("[type=search]")
    : event.key === "r"
    ? one("[name=reason]")
    : null;
  if (field) {
    event.preventDefault();
    field.focus();
  }
});

function say(spot) {
  const figure = spot.closest("figure");
  all(".spot.here", figure).forEach((other) => other.classList.remove("here"));
  spot.classList.add("here");
  one(".says", figure).textContent = spot.dataset.text;
}

document.addEventListener(
  "pointerover",
  (event) => event.target.classList?.contains("spot") && say(event.target),
);
document.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || !event.target.matches?.(".plot svg")) return;
  const spots = all(".spot", event.target);
  const at = spots.findIndex((spot) => spot.classList.contains("here"));
  say(
    spots[
      Math.min(
        Math.max(at < 0 ? spots.length - 1 : at + step, 0),
        spots.length - 1,
      )
    ],
  );
  event.preventDefault();
});

// A form is sent once, however often it is clicked.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
  event.target.classList.add("busy-now");
});
addEventListener(
  "pageshow",
  () =>
    all("form[data-sent]").forEach((
      form,
    ) => (delete form.dataset.sent, form.classList.remove("busy-now"))),
);
all(".side nav [aria-current], .tabs [aria-current]").forEach((at) =>
  at.scrollIntoView({ inline: "nearest", block: "nearest" })
);
