"use strict";

/* The editor of the rows: one block for each, as token ids or as text.

   showRows builds it; what is typed is reported through on.type(row, field, value), a choice
   through on.change(rows). showRowFaults says beside each field what is wrong with it. */

// The id of the element that holds a field of a row.
function rowFieldId(row, field) {
  return `row-${row}-${field}`;
}

// A labelled field of a row, with a place for its fault.
function rowField(number, field, value, context, attributes = {}) {
  const { text, on } = context;
  const id = rowFieldId(number, field);
  const isText = ["instruction", "input", "output"].includes(field);
  const control = element(isText ? "textarea" : "input", {
    id,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `${id}-fault`,
    ...(isText ? { rows: 1 } : {}),
    ...attributes,
  });
  control.value = value;
  control.addEventListener("input", () => on.type(number, field, control.value));
  return element(
    "div",
    { class: `field ${field}` },
    element("label", { for: id }, text(field)),
    control,
    element("p", { id: `${id}-fault`, class: "fault" }),
  );
}

// The choice between ids and text.
function kindField(number, row, context) {
  const { text } = context;
  const id = rowFieldId(number, "kind");
  const select = element("select", { id });
  const kinds = ["ids", "text"].map((kind) => option(kind, text(`kind.${kind}`)));
  fillSelect(select, kinds, row.kind);
  select.addEventListener("change", () => {
    context.on.change(number, select.value === "ids" ? context.asIds(number) : context.asText(number));
  });
  return element(
    "div",
    { class: "field kind" },
    element("label", { for: id }, text("kind")),
    select,
  );
}

// The choice of an entry that came with the page; it fills the fields of text.
function entryField(number, context) {
  const { text, entries } = context;
  const id = rowFieldId(number, "entry");
  const select = element("select", { id });
  const options = entries.map((entry, i) => option(String(i), entryTitle(entry)));
  fillSelect(select, [option("", text("fill.none")), ...options], "");
  select.addEventListener("change", () => {
    if (select.value !== "") {
      const entry = entries[Number(select.value)];
      context.on.change(number, textRow(entry.instruction, entry.input, entry.output), "entry");
    }
  });
  return element(
    "div",
    { class: "field entry" },
    element("label", { for: id }, text("fill")),
    select,
  );
}

// An entry in one short line.
function entryTitle(entry) {
  const whole = [entry.instruction, entry.input].filter(Boolean).join(" — ");
  return whole.length > 60 ? `${whole.slice(0, 59)}…` : whole;
}

// The block of one row.
function rowBlock(row, number, context) {
  const { text, on } = context;
  const remove = element(
    "button",
    { type: "button", class: "remove", "aria-label": text("removeRow", { row: number }) },
    text("remove"),
  );
  remove.addEventListener("click", () => on.remove(number));
  const fields =
    row.kind === "ids"
      ? [
          rowField(number, "ids", row.ids, context),
          context.needsPrompt
            ? rowField(number, "prompt", row.prompt, context, { inputmode: "numeric" })
            : null,
        ]
      : [
          context.entries.length > 0 ? entryField(number, context) : null,
          ...["instruction", "input", "output"].map((field) =>
            rowField(number, field, row[field], context),
          ),
        ];
  return element(
    "fieldset",
    { class: `row-block ${row.kind}` },
    element("legend", {}, text("row", { row: number })),
    kindField(number, row, context),
    ...fields,
    remove,
  );
}

// The blocks of all rows, in place of those that are there.
function showRows(box, rows, context) {
  box.replaceChildren(...rows.map((row, number) => rowBlock(row, number, context)));
}

// Says a fault beside its field, or clears it.
function showFault(id, sentence) {
  const control = byId(id);
  const place = byId(`${id}-fault`);
  if (control !== null && place !== null) {
    control.setAttribute("aria-invalid", String(sentence !== ""));
    place.textContent = sentence;
  }
}

// What is wrong with a field: that it can't be read, or what collate.py says of it; "" if nothing.
function faultText(field, row, view, text) {
  const isHere = (one) => one !== null && one.row === row && one.field === field;
  const fault = view.faults.find(isHere);
  if (fault !== undefined) {
    return text(fault.text, fault.values);
  }
  return isHere(view.refusal) ? view.refusal.message : "";
}

// The faults of all rows' fields.
function showRowFaults(rows, view, text) {
  for (const [number, row] of rows.entries()) {
    for (const field of row.kind === "ids" ? ["ids", "prompt"] : ["instruction", "input", "output"]) {
      showFault(rowFieldId(number, field), faultText(field, number, view, text));
    }
  }
}
