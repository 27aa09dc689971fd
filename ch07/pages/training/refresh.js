"use strict";

// Loads the page again while its run trains; never while the reader has paused or selects text.

const SHORTEST_WAIT = 5; // seconds between two loads
const SILENCE = 60; // seconds without an evaluation, at least, before a run may have been stopped
const REMEMBERED = ["numbers", "settings"]; // parts that the reader may have opened

// A duration in words.
function durationText(seconds) {
  if (seconds < 90) {
    return `${Math.max(1, Math.round(seconds))} s`;
  }
  if (seconds < 5400) {
    return `${Math.round(seconds / 60)} min`;
  }
  return `${(seconds / 3600).toFixed(1)} h`;
}

// The seconds between the last two evaluations, or 0.
function usualInterval(records) {
  if (records.length < 2) {
    return 0;
  }
  return records[records.length - 1].seconds - records[records.length - 2].seconds;
}

// Whether the reader is doing something that a reload would spoil.
function isBusy() {
  return document.hidden || !document.getSelection().isCollapsed;
}

// What the next load restores: scrolling, focus, opened parts, the axis if the reader chose one.
function remember(chosenAxis) {
  history.replaceState(
    {
      scroll: window.scrollY,
      focus: document.activeElement ? document.activeElement.id : "",
      opened: REMEMBERED.filter((id) => document.getElementById(id).open),
      log: chosenAxis,
    },
    "",
  );
}

// Restore it, once the page is drawn.
function restore() {
  history.scrollRestoration = "manual";
  const before = history.state;
  if (before === null) {
    return;
  }
  for (const id of before.opened) {
    document.getElementById(id).open = true;
  }
  window.scrollTo(0, before.scroll);
  const focused = document.getElementById(before.focus);
  if (focused !== null) {
    focused.focus({ preventScroll: true });
  }
}

// Follow a run that trains; `reload` loads the page again.
function follow(run, reload) {
  const loaded = Date.now() / 1000;
  const interval = usualInterval(run.records);
  const button = document.getElementById("pause");
  const age = document.getElementById("age");
  let paused = false;

  function tick() {
    const now = Date.now() / 1000;
    const silence = Math.max(0, now - run.written);
    age.textContent = `Written ${durationText(silence)} ago.`;
    if (silence > Math.max(SILENCE, 5 * interval)) {
      age.textContent += " That is long: the run may have been stopped. Its terminal knows.";
    }
    const wait = Math.max(SHORTEST_WAIT, silence / 10);
    const isDue = now >= Math.max(loaded + wait, run.written + interval);
    if (isDue && !paused && !isBusy()) {
      reload();
    }
  }

  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    button.setAttribute("aria-pressed", String(paused));
    document.getElementById("paused").textContent = paused ? "Paused." : "";
    tick();
  });
  tick();
  window.setInterval(tick, 1000);
}
