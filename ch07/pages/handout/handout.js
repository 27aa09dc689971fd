"use strict";

// The lesson's title stands at the top of every printed page (handout.css).
document.documentElement.style.setProperty("--title", JSON.stringify(document.title));
