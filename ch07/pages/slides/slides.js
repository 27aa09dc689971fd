"use strict";

const slides = [...document.querySelectorAll(".slide")];
const words = JSON.parse(document.getElementById("words").textContent);
const root = document.documentElement;
const overview = document.getElementById("overview");
const SWIPE = 50; // pixels that make a touch a swipe
const EDGE = 0.15; // share of the width, left and right, in which a click turns the page
let current = 0;
let touch = null;

// The fragments of the current slide that are not shown yet.
function hiddenFragments() {
  return [...slides[current].querySelectorAll(".fragment:not(.shown)")];
}

// Show a slide by its index: with no fragment yet, or with all of them when coming back to it.
function show(index, withFragments) {
  current = Math.min(Math.max(index, 0), slides.length - 1);
  slides.forEach((slide, i) => slide.classList.toggle("current", i === current));
  for (const fragment of slides[current].querySelectorAll(".fragment")) {
    fragment.classList.toggle("shown", withFragments);
  }
  window.scrollTo(0, 0);
  announce();
}

// Say where we are: in the bar, in the address, and to a screen reader.
function announce() {
  const place = `${current + 1} / ${slides.length}`;
  const title = slides[current].querySelector("h1, h2").textContent;
  document.getElementById("place").textContent = place;
  document.getElementById("status").textContent =
    `${words.slide} ${current + 1} ${words.of} ${slides.length}: ${title}`;
  document.getElementById("previous").disabled = current === 0;
  document.getElementById("next").disabled =
    current === slides.length - 1 && hiddenFragments().length === 0;
  if (location.hash !== `#${current + 1}`) {
    location.hash = `#${current + 1}`;
  }
}

// One step on: the next fragment, or else the next slide.
function goOn() {
  const hidden = hiddenFragments();
  if (hidden.length > 0) {
    hidden[0].classList.add("shown");
    announce();
  } else if (current < slides.length - 1) {
    show(current + 1, false);
  }
}

// One step back: to the slide before, as it was left.
function goBack() {
  if (current > 0) {
    show(current - 1, true);
  }
}

// The slide that the address names, the first one if it names none.
function showAddressed() {
  const index = Number.parseInt(location.hash.slice(1), 10) - 1;
  if (!Number.isInteger(index)) {
    show(0, false);
  } else if (index !== current) {
    show(index, false);
  }
}

// Show or hide the speaker's notes.
function toggleNotes() {
  const shown = root.classList.toggle("with-notes");
  document.getElementById("show-notes").setAttribute("aria-pressed", String(shown));
}

// Enter or leave full screen; a browser may refuse, which changes nothing.
function toggleFullScreen() {
  const done = document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen();
  done.catch(() => undefined);
}

// Open the list of all slides, with the current one in focus.
function openOverview() {
  for (const link of overview.querySelectorAll("a")) {
    link.removeAttribute("aria-current");
  }
  const link = overview.querySelectorAll("a")[current];
  link.setAttribute("aria-current", "true");
  overview.showModal();
  link.focus();
}

// Fill the overview with a link to each slide.
function fillOverview() {
  const list = document.getElementById("titles");
  slides.forEach((slide, index) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `#${index + 1}`;
    link.textContent = slide.querySelector("h1, h2").textContent;
    link.addEventListener("click", () => overview.close());
    item.append(link);
    list.append(item);
  });
}

// What each key does; letters in lower case.
const KEYS = {
  ArrowRight: goOn,
  PageDown: goOn,
  " ": goOn,
  ArrowLeft: goBack,
  PageUp: goBack,
  Home: () => show(0, false),
  End: () => show(slides.length - 1, true),
  Escape: openOverview,
  n: toggleNotes,
  f: toggleFullScreen,
};

// A key: not with Ctrl and the like, not in the overview, and a button's space is the button's own.
function onKey(event) {
  const onControl = event.target.closest("button, a") && event.key === " ";
  if (event.ctrlKey || event.altKey || event.metaKey || overview.open || onControl) {
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = event.key === " " && event.shiftKey ? goBack : KEYS[key];
  if (action) {
    event.preventDefault();
    action();
  }
}

// A click near the left or right edge turns the page, unless it selects text or meets a control.
function onClick(event) {
  if (event.target.closest("a, button, .notes") || String(getSelection()) !== "") {
    return;
  }
  const place = event.clientX / window.innerWidth;
  if (place > 1 - EDGE) {
    goOn();
  } else if (place < EDGE) {
    goBack();
  }
}

// A finger that moves sideways turns the page.
function onTouchEnd(event) {
  const end = event.changedTouches[0];
  const across = end.clientX - touch.x;
  if (Math.abs(across) > SWIPE && Math.abs(across) > 2 * Math.abs(end.clientY - touch.y)) {
    (across < 0 ? goOn : goBack)();
  }
}

function start() {
  root.classList.add("scripted");
  fillOverview();
  document.addEventListener("keydown", onKey);
  const main = document.getElementById("slides");
  main.addEventListener("click", onClick);
  main.addEventListener("touchstart", (event) => {
    touch = { x: event.touches[0].clientX, y: event.touches[0].clientY };
  }, { passive: true });
  main.addEventListener("touchend", onTouchEnd);
  document.getElementById("previous").addEventListener("click", goBack);
  document.getElementById("next").addEventListener("click", goOn);
  document.getElementById("show-overview").addEventListener("click", openOverview);
  document.getElementById("show-notes").addEventListener("click", toggleNotes);
  document.getElementById("full-screen").addEventListener("click", toggleFullScreen);
  window.addEventListener("hashchange", showAddressed);
  current = -1;
  showAddressed();
}

start();
