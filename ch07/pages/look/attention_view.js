"use strict";

/* What a model attends to: a map for each head, a large one, the strip of tokens, the table's column.

   It shows one head, which the reader chooses here, for one token, which the page chooses. */

class AttentionView {
  // `piece` gives the text of a token id; `onSelect` gets the place of a token chosen in the map.
  constructor(layers, heads, piece, onSelect) {
    this.layers = layers;
    this.heads = heads;
    this.piece = piece;
    this.onSelect = onSelect;
    this.layer = 0;
    this.head = 0;
    this.text = null; // {ids, attention}
    this.token = 0;
    this.fillSelectors();
    this.connect();
  }

  fillSelectors() {
    const options = (n) =>
      Array.from({ length: n }, (_, i) => {
        const option = element("option", "", String(i + 1));
        option.value = String(i);
        return option;
      });
    byId("layer").replaceChildren(...options(this.layers));
    byId("head").replaceChildren(...options(this.heads));
  }

  connect() {
    byId("layer").addEventListener("change", (event) => this.chooseHead(+event.target.value, this.head));
    byId("head").addEventListener("change", (event) => this.chooseHead(this.layer, +event.target.value));
    this.markInHeads = makeListbox(
      byId("heads"),
      (i) => this.chooseHead(Math.floor(i / this.heads), i % this.heads),
      () => this.heads,
    );
    const map = byId("map");
    map.addEventListener("mousemove", (event) => this.showMapLine(this.placeInMap(event)));
    map.addEventListener("click", (event) => this.onSelect(this.placeInMap(event).token));
    const redraw = () => {
      if (this.text !== null) {
        this.showHeads();
        this.showHead();
      }
    };
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    let timer = null;
    window.addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(redraw, PAUSE);
    });
  }

  // A new text; which token to show comes next, with `showToken`.
  showText({ ids, attention }) {
    this.text = { ids, attention };
    byId("attended").replaceChildren(...ids.map((id) => element("li", "chip", this.piece(id))));
    this.showHeads();
  }

  // The end of the text isn't read, so its place shows the last token.
  showToken(place) {
    this.token = Math.min(place, this.text.ids.length - 1);
    this.showHead();
  }

  // Small maps of all heads, a row for each layer, with the numbers of both.
  showHeads() {
    const { layers, heads } = this;
    const list = byId("heads");
    list.style.setProperty("--heads", heads);
    const numbers = Array.from({ length: heads }, (_, head) => this.mapNumber(head + 1));
    list.replaceChildren(this.mapNumber(""), ...numbers);
    for (let layer = 0; layer < layers; layer += 1) {
      const maps = Array.from({ length: heads }, (_, head) => this.headMap(layer, head));
      list.append(this.mapNumber(layer + 1), ...maps);
    }
    this.markInHeads(this.layer * heads + this.head);
  }

  mapNumber(number) {
    const label = element("span", "number", String(number));
    label.setAttribute("aria-hidden", "true"); // each map has a name of its own
    return label;
  }

  headMap(layer, head) {
    const item = element("div", "head");
    item.setAttribute("role", "option");
    item.setAttribute("aria-label", `layer ${layer + 1}, head ${head + 1}`);
    const canvas = element("canvas");
    drawHead(canvas, this.text.attention, layer, head, THUMBNAIL);
    item.append(canvas);
    return item;
  }

  chooseHead(layer, head) {
    this.layer = layer;
    this.head = head;
    this.markInHeads(layer * this.heads + head);
    this.showHead();
  }

  // The strip, the map and the table for the chosen head and the selected token.
  showHead() {
    const { attention, ids } = this.text;
    const { layer, head, token } = this;
    byId("layer").value = String(layer);
    byId("head").value = String(head);
    byId("map-caption").textContent = `Layer ${layer + 1}, head ${head + 1}: each row is a token; the stronger the colour, the more it attends`;
    const row = attentionRow(attention, layer, head, token);
    const largest = Array.from(row.keys()).sort((a, b) => row[b] - row[a]).slice(0, 3);
    const told = largest.map((key) => `‘${this.piece(ids[key])}’ ${percent(row[key])}`).join(", ");
    byId("attention-line").textContent = `Token ${token + 1}, ‘${this.piece(ids[token])}’, attends most to ${told}.`;
    const chips = Array.from(byId("attended").children);
    chips.forEach((chip, key) => {
      chip.style.setProperty("--share", key < row.length ? colourShare(row[key]) : 0);
      chip.classList.toggle("is-later", key > token);
      chip.classList.toggle("is-selected", key === token);
      chip.title = key <= token ? percent(row[key]) : "";
    });
    drawArcs(byId("arcs"), chips, row, token);
    this.showMap();
    this.showColumn();
  }

  showMap() {
    const T = this.text.ids.length;
    const map = byId("map");
    drawHead(map, this.text.attention, this.layer, this.head);
    map.setAttribute("aria-label", `Attention of layer ${this.layer + 1}, head ${this.head + 1}; the table has its largest weights`);
    const marker = byId("map-row");
    marker.hidden = false;
    marker.style.top = `${(100 * this.token) / T}%`;
    marker.style.height = `${100 / T}%`;
    this.showMapLine(null);
  }

  // The token and the key under the pointer.
  placeInMap(event) {
    const T = this.text.ids.length;
    const box = byId("map").getBoundingClientRect();
    const within = (share) => Math.max(0, Math.min(T - 1, Math.floor(share * T)));
    return {
      token: within((event.clientY - box.top) / box.height),
      key: within((event.clientX - box.left) / box.width),
    };
  }

  showMapLine(place) {
    if (place === null || place.key > place.token) {
      byId("map-line").textContent = "Point at the map, or click a row to select its token.";
      return;
    }
    const { ids, attention } = this.text;
    const weight = attentionWeight(attention, this.layer, this.head, place.token, place.key);
    byId("map-line").textContent =
      `${place.token + 1} ‘${this.piece(ids[place.token])}’ attends to ` +
      `${place.key + 1} ‘${this.piece(ids[place.key])}’: ${percent(weight)}`;
  }

  showColumn() {
    byId("attention-column").textContent = `Attends most to (layer ${this.layer + 1}, head ${this.head + 1})`;
    const { ids, attention } = this.text;
    Array.from(byId("table-rows").children).forEach((line, place) => {
      if (place === ids.length) {
        line.lastElementChild.textContent = "–";
        return;
      }
      const row = attentionRow(attention, this.layer, this.head, place);
      const key = largestPlace(row);
      line.lastElementChild.textContent = `${key + 1} ${this.piece(ids[key])} (${percent(row[key])})`;
    });
  }
}
