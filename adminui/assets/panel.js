// What the panel's pages have beyond what they do without a script: copying,
// dialogs, and looking again. All of it is built on the pages themselves.
"use strict";

const LOOK_AGAIN = 3000; // milliseconds

// say tells people who do not see the page what has happened.
function say(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text;
}

// Copying. The buttons are hidden where there is no script.
function offerCopying(root) {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}

async function copy(button) {
  const from = document.getElementById(button.dataset.copy);
  const label = button.querySelector("span");
  let done = "Copied";
  try {
    await navigator.clipboard.writeText("value" in from ? from.value : from.textContent);
  } catch {
    done = "Not allowed";
    if (from.select) from.select();
  }
  label.textContent = done;
  say(done);
  setTimeout(() => { label.textContent = "Copy"; }, 2000);
}

// fetchPage returns a page of the panel, or null if it is none, such as a host's
// page for signing in.
async function fetchPage(url) {
  const answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return null;
  return { url: answer.url, document: new DOMParser().parseFromString(await answer.text(), "text/html") };
}

// Dialogs. A link to a page that asks something shows it in front of this one; if
// that does not work, the link is followed.
let opening = false;

async function openDialog(link) {
  if (opening || document.querySelector("dialog[open]")) return;
  opening = true;
  await showDialog(link).finally(() => { opening = false; });
}

async function showDialog(link) {
  const page = await fetchPage(link.href).catch(() => null);
  const content = page && page.document.querySelector("[data-dialog-content]");
  if (!content) {
    location.assign(link.href);
    return;
  }
  // What is relative there is relative to that page.
  for (const name of ["href", "action"]) {
    for (const e of content.querySelectorAll(`[${name}]`)) e.setAttribute(name, new URL(e.getAttribute(name), page.url).href);
  }
  const dialog = document.createElement("dialog");
  const heading = content.querySelector("h1");
  if (heading) {
    heading.id = "dialog-heading";
    dialog.setAttribute("aria-labelledby", heading.id);
  }
  const first = content.querySelector("[data-first]");
  if (first) first.autofocus = true;
  dialog.append(document.adoptNode(content));
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (link.isConnected) link.focus();
  });
  dialog.showModal();
}

// Looking again: the parts of a page that change are replaced by what the page has
// there now, unless somebody is reading or using them. What only has the focus, as
// after a click, gets it back.
function busy(part) {
  const selection = document.getSelection();
  return opening || part.contains(document.activeElement) && !document.activeElement.matches(RETURNING) ||
    part.querySelector(":active") !== null || document.querySelector("dialog[open], form[data-sent]") !== null ||
    (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
}

const RETURNING = "summary, a[href], button";

// nameOf is what an element is found by in what replaces it: where it leads, what it
// copies, sends or opens.
function nameOf(e) {
  return e.getAttribute("href") || e.dataset.copy || (e.form && e.form.getAttribute("action")) || e.parentElement.id;
}

// replace puts what there is now in the place of a part.
function replace(part, now) {
  const focus = part.contains(document.activeElement) ? document.activeElement : null;
  part.replaceWith(document.adoptNode(now)); // which is no longer live when there is nothing to wait for
  if (!focus) return;
  const again = [...now.querySelectorAll(RETURNING)].find((e) => e.tagName === focus.tagName && nameOf(e) === nameOf(focus));
  (again || document.getElementById("main")).focus({ preventScroll: true });
}

async function lookAgain() {
  const parts = [...document.querySelectorAll("[data-live]:not([data-still])")];
  if (parts.length === 0 || document.hidden || parts.every(busy)) return;
  const page = await fetchPage(location.href);
  if (!page) return;
  for (const part of parts) {
    const now = page.document.getElementById(part.id);
    if (!now || busy(part)) continue;
    keepOpen(part, now);
    offerCopying(now);
    if (part.innerHTML === now.innerHTML) continue;
    replace(part, now);
  }
}

// keepOpen lets what somebody has opened or closed stay so.
function keepOpen(before, after) {
  for (const e of after.querySelectorAll("details[id]")) {
    const old = before.querySelector(`#${CSS.escape(e.id)}`);
    if (old) e.open = old.open;
  }
}

let live = true;

function showLive(button) {
  button.setAttribute("aria-pressed", String(live));
}

async function keepLooking() {
  if (live) await lookAgain().catch(() => {}); // the next time it may work
  setTimeout(keepLooking, LOOK_AGAIN);
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-copy], [data-dialog], [data-live-toggle]");
  if (!target) return;
  if (target.dataset.copy !== undefined) {
    copy(target);
  } else if (target.dataset.liveToggle !== undefined) {
    live = !live;
    showLive(target);
    say(live ? "The list is kept up to date" : "The list stays as it is");
  } else if (!event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
    event.preventDefault();
    openDialog(target);
  }
});

// A form is sent once, however often its button is pressed. It may be sent again when
// there has been no answer for a while, or somebody has stopped waiting for one.
const NO_ANSWER = 10000; // milliseconds

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => { delete form.dataset.sent; }, NO_ANSWER);
});
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

offerCopying(document);

const toggle = document.querySelector("[data-live-toggle]");
if (toggle && document.querySelector("[data-live]:not([data-still])")) {
  toggle.hidden = false;
  showLive(toggle);
}
if (document.querySelector("[data-live]")) setTimeout(keepLooking, LOOK_AGAIN);

// The page with a secret answers a form. With the webhook's own address, reloading
// it or coming back to it shows the webhook.
const created = document.querySelector("[data-address]");
if (created) history.replaceState(null, "", new URL(created.dataset.address, location.href));

// What has just been done is not said again when the page is.
const address = new URL(location.href);
if (address.searchParams.has("said")) {
  address.searchParams.delete("said");
  history.replaceState(null, "", address);
}

const focused = document.querySelector("[data-focus]");
if (focused) focused.focus();

// A recovery goes on by itself.
const unfinished = document.querySelector("form[data-continue]");
if (unfinished) setTimeout(() => unfinished.requestSubmit(), 300);
