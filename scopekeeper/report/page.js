"use strict";
// Sorts and filters the table of members, and dims what is filtered out in the timeline.
// Text is set as text: nothing here makes markup of it.
(() => {
  const { classes, at_once: atOnce, rows } = JSON.parse(document.getElementById("data").textContent);
  const reason = classes.indexOf("reason");
  const host = classes.indexOf("host");
  const table = document.getElementById("lives");
  const heads = [...table.tHead.rows[0].cells];
  const words = document.getElementById("words");
  const count = document.getElementById("count");
  const [previous, next] = ["previous", "next"].map((name) => document.getElementById(name));
  const chips = [...document.querySelectorAll(".legend button[data-reason]")];
  const machines = [...document.querySelectorAll(".legend button[data-host]")];
  const shapes = [...document.querySelectorAll(".timeline rect")];
  const wanted = new Set();
  const wantedHosts = new Set();
  const classOf = (name) => "r-" + name.replaceAll(" ", "-");
  const textOf = (cell) => (typeof cell === "string" ? cell : cell[0]);
  const valueOf = (cell) => (typeof cell === "string" ? cell : cell[1]);
  const haystacks = rows.map((row) => `\n${row.map(textOf).join("\n")}\n`.toLowerCase());
  const number = (value) => value.toLocaleString("en");
  let sorted = rows.map((_, at) => at);
  let shown = sorted;
  let first = 0;

  function compare(a, b) {
    if (typeof a === "string") return a < b ? -1 : a > b ? 1 : 0;
    return a - b;
  }

  // An unknown value is last in both directions.
  function sort(column, descending) {
    const values = rows.map((row) => valueOf(row[column]));
    const sign = descending ? -1 : 1;
    sorted = rows.map((_, at) => at).sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * compare(x, y) || a - b;
    });
    heads.forEach((head, at) => {
      if (at === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    filter();
  }

  // A word may be anywhere; words in quotes are the whole of a cell.
  function filter() {
    const found = words.value.toLowerCase().matchAll(/"([^"]*)"|\S+/g);
    const all = [...found].map(([word, cell]) => (cell === undefined ? word : `\n${cell}\n`));
    shown = sorted.filter((at) =>
      (wanted.size === 0 || wanted.has(textOf(rows[at][reason]))) &&
      (wantedHosts.size === 0 || wantedHosts.has(textOf(rows[at][host]))) &&
      all.every((word) => haystacks[at].includes(word)));
    first = 0;
    draw();
  }

  function draw() {
    const part = document.createDocumentFragment();
    for (const at of shown.slice(first, first + atOnce)) {
      const row = document.createElement("tr");
      rows[at].forEach((cell, column) => {
        const made = document.createElement("td");
        const text = textOf(cell);
        if (column === reason) {
          const swatch = document.createElement("i");
          swatch.className = "swatch " + classOf(text);
          made.append(swatch);
        }
        made.append(text);
        if (classes[column]) made.className = classes[column];
        row.append(made);
      });
      part.append(row);
    }
    table.tBodies[0].replaceChildren(part);
    const last = Math.min(first + atOnce, shown.length);
    const range = shown.length > atOnce ? `${number(first + 1)} to ${number(last)} of ` : "";
    const rest = shown.length < rows.length ? ` of ${number(rows.length)}` : "";
    count.textContent = `${range}${number(shown.length)}${rest}`;
    previous.disabled = first === 0;
    next.disabled = last >= shown.length;
  }

  function turn(by) {
    first += by * atOnce;
    draw();
  }

  function choose(chip, among, name) {
    if (!among.delete(name)) among.add(name);
    chip.setAttribute("aria-pressed", String(among.has(name)));
    const kept = [...wanted].map(classOf);
    for (const shape of shapes) {
      const is = shape.getAttribute("class").split(" ")[0];
      const on = shape.closest(".track").dataset.host;
      shape.classList.toggle("dim", (wanted.size > 0 && !kept.includes(is)) ||
        (wantedHosts.size > 0 && !wantedHosts.has(on)));
    }
    filter();
  }

  const quoted = (name) => (name.includes('"') ? name : `"${name}"`);

  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    const isNumber = rows.some((row) => typeof row[column] !== "string");
    sort(column, now ? now === "ascending" : isNumber);
  }));
  chips.forEach((chip) => chip.addEventListener("click", () =>
    choose(chip, wanted, chip.dataset.reason)));
  machines.forEach((chip) => chip.addEventListener("click", () =>
    choose(chip, wantedHosts, chip.dataset.host)));
  words.addEventListener("input", filter);
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  for (const button of document.querySelectorAll("button[data-find]")) {
    button.addEventListener("click", () => {
      const names = [button.dataset.of, button.dataset.find];
      words.value = names.filter((name) => name).map(quoted).join(" ");
      filter();
      words.scrollIntoView({ block: "center" });
    });
  }
  filter();
})();
