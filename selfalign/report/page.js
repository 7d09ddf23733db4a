// Lists the rows of the page: search, filters, order, pages, and what is in an open row. The choice stands in the page's
// address. Rows are unpacked when they are opened or searched, and their text becomes text nodes, never HTML.
"use strict";

const PAGE_ROWS = 50;
const DIFF_CELLS = 4e6; // lines of one text times those of the other, above which both are shown without a comparison
const find = (id) => document.getElementById(id);

async function unpack(element) {
  const binary = atob(element.textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

// ---- what is in a row ----

const TOKEN =
  /(#[^\n]*)|([rbfu]{0,2}(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))|\b(?:(def|class)(\s+)(\w+)|(and|as|assert|async|await|break|continue|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield|None|True|False)\b)|\b(\d[\w.]*)/gi;

function highlighted(code) {
  const pre = make("pre");
  const inner = make("code");
  let end = 0;
  for (const match of code.matchAll(TOKEN)) {
    inner.append(code.slice(end, match.index));
    const [all, comment, string, define, space, name, keyword] = match;
    if (define) inner.append(make("span", "k", define), space, make("span", "d", name));
    else inner.append(make("span", comment ? "c" : string ? "s" : keyword ? "k" : "n", all));
    end = match.index + all.length;
  }
  inner.append(code.slice(end));
  pre.append(inner);
  pre.tabIndex = 0; // so that it can be scrolled by keyboard
  return pre;
}

function prose(text) {
  const paragraph = make("p", "prose");
  text.split(/`([^`\n]+)`/).forEach((part, i) => paragraph.append(i % 2 ? make("code", "", part) : part));
  return paragraph;
}

// Prose with code between fences; what follows a fence that never ends is code.
function markdown(text) {
  const parts = [];
  let lines = [];
  let fence = null;
  const flush = () => {
    const joined = lines.join("\n");
    if (fence) parts.push(highlighted(joined));
    else if (joined.trim()) parts.push(prose(joined.trim()));
    lines = [];
  };
  for (const line of text.split("\n")) {
    const [, mark] = line.match(/^\s*(`{3,}|~{3,})/) ?? [];
    const ends = fence && mark && mark.startsWith(fence) && !line.trim().replaceAll(mark[0], "");
    if (mark && (!fence || ends)) {
      flush();
      fence = fence ? null : mark;
    } else lines.push(line);
  }
  flush();
  return parts;
}

// The lines of both texts: " " in both, "-" only in `before`, "+" only in `after`, by the longest common subsequence.
function difference(before, after) {
  const a = before.split("\n");
  const b = after.split("\n");
  if (a.length * b.length > DIFF_CELLS) return [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])];
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
  const lines = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) lines.push([" ", a[i++], j++]);
    else if (j >= b.length || (i < a.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1]))
      lines.push(["-", a[i++]]);
    else lines.push(["+", b[j++]]);
  }
  return lines;
}

function diff(rejected, chosen) {
  const pre = make("pre", "diff");
  for (const [sign, line] of difference(rejected, chosen))
    pre.append(make("span", { "+": "plus", "-": "minus" }[sign] ?? "", `${sign} ${line}`));
  pre.tabIndex = 0;
  return [prose("Lines with + are the chosen response's, lines with - the rejected one's."), pre];
}

// ---- the list ----

async function start() {
  const { names, rows, chunkRows } = await unpack(find("index"));
  const total = rows.id.length;
  const chunks = [...document.querySelectorAll(".chunk")];
  const unpacked = [];
  const chunk = (number) => (unpacked[number] ??= unpack(chunks[number]));
  const body = async (row) => (await chunk(Math.floor(row / chunkRows)))[row % chunkRows];
  const place = new Map(); // by id, and by run and id, as runs may share ids; of several, the first
  rows.id.forEach((id, row) => {
    for (const key of [id, `${names.run[rows.run[row]]}\n${id}`]) if (!place.has(key)) place.set(key, row);
  });
  const address = (row) => {
    const run = names.run.length > 1 ? { run: names.run[rows.run[row]] } : {};
    return `#${new URLSearchParams({ id: rows.id[row], ...run })}`;
  };
  const tasks = new Map();
  rows.task.forEach((task, row) => names.task[task] && tasks.set(task, [...(tasks.get(task) ?? []), row].slice(0, 50)));

  const filters = ["run", "group", "category", "difficulty"];
  const controls = ["search", ...filters, "sort"];
  const list = find("list");
  let shown = []; // the rows that match, in order
  let page = 0;
  let latest = 0;

  for (const name of filters) {
    const counts = names[name].map(() => 0);
    for (const value of rows[name]) counts[value]++;
    names[name].forEach((label, i) => {
      if (!label) return;
      find(name).append(new Option(`${label} (${counts[i].toLocaleString("en")})`, label));
    });
    find(name).hidden = names[name].filter(Boolean).length < 2;
  }
  const isAccepted = (group) => /^(accepted|passed|ok|row|stop|eos_token|passed, right)$/.test(group);
  const others = names.group.filter((group) => group !== "accepted");
  if (names.group.includes("accepted") && others.length > 1) find("group").options[1].after(new Option("all others", "-accepted"));
  for (const column of ["score", "rate"])
    if (rows[column].every((value) => value === null))
      for (const sign of ["", "-"]) find("sort").querySelector(`[value="${sign}${column}"]`).remove();
  find("sort").hidden = find("sort").options.length < 2;

  function facts(row, content) {
    const line = make("p", "facts");
    const link = make("a", "", rows.id[row] || `row ${row + 1}`);
    link.href = address(row);
    link.title = "A link to this row";
    line.append(link);
    for (const [name, value] of content.facts) {
      line.append(` · ${name}: `);
      const kept = name === "kept id" ? place.get(`${names.run[rows.run[row]]}\n${value}`) : undefined;
      if (kept !== undefined) {
        const other = make("a", "", value);
        other.href = address(kept);
        line.append(other);
      } else line.append(value);
    }
    return line;
  }

  function siblings(row) {
    const others = (tasks.get(rows.task[row]) ?? []).filter((other) => other !== row);
    if (!others.length) return [];
    const line = make("p", "facts", "Other rows of this task: ");
    others.forEach((other, i) => {
      const run = names.run.length > 1 ? `${names.run[rows.run[other]]}: ` : "";
      const link = make("a", "", `${run}${names.group[rows.group[other]]}`);
      link.href = address(other);
      line.append(i ? ", " : "", link);
    });
    return [line];
  }

  async function fill(details, row) {
    if (details.dataset.filled) return;
    details.dataset.filled = "yes";
    const content = await body(row);
    const response = content.parts.find(([heading]) => heading === "Response");
    const inside = make("div", "body", facts(row, content), ...siblings(row));
    for (const [heading, kind, text] of content.parts) {
      inside.append(make("h3", "", heading));
      if (kind === "code") inside.append(highlighted(text));
      else if (kind === "diff") inside.append(...diff(text, response ? response[2] : ""));
      else if (kind === "markdown") inside.append(...markdown(text));
      else inside.append(prose(text));
    }
    details.append(inside);
  }

  function numbers(row) {
    const words = [names.category[rows.category[row]], names.difficulty[rows.difficulty[row]]].filter(Boolean);
    if (rows.score[row] !== null) words.push(`score ${rows.score[row].toFixed(2)}`);
    if (rows.rate[row] !== null) words.push(`${Math.round(100 * rows.rate[row])} % pass`);
    return words.join(", ");
  }

  function article(row) {
    const group = names.group[rows.group[row]];
    const summary = make("summary");
    if (names.group.length > 1) summary.append(make("span", isAccepted(group) ? "badge good" : "badge", group));
    if (names.run.length > 1) summary.prepend(make("span", "kind quiet", names.run[rows.run[row]]));
    summary.append(make("span", "first", rows.title[row]), make("span", "kind quiet", numbers(row)));
    const details = make("details", "", summary);
    details.addEventListener("toggle", () => details.open && fill(details, row));
    const element = make("article", "", details);
    element.dataset.row = row;
    return element;
  }

  function showPage() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE_ROWS));
    page = Math.min(Math.max(0, page), pages - 1);
    list.replaceChildren(...shown.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS).map(article));
    find("page").textContent = `page ${page + 1} of ${pages.toLocaleString("en")}`;
    find("previous").disabled = page === 0;
    find("next").disabled = page === pages - 1;
    if (find("open").checked) openAll();
  }

  function openAll() {
    for (const details of list.querySelectorAll("details")) details.open = find("open").checked;
  }

  // Which rows have all words of the search, each in any of their texts; null if a later search has begun.
  async function searched(candidates, words, search) {
    const patterns = words.map((word) => new RegExp(word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i"));
    const found = [];
    let last = performance.now();
    for (const row of candidates) {
      const { facts, parts } = await chunkOf(row);
      const has = (pattern) =>
        parts.some((part) => pattern.test(part[2])) || pattern.test(rows.id[row]) || facts.some((fact) => pattern.test(fact[1]));
      if (patterns.every(has)) found.push(row);
      if (performance.now() - last > 100) {
        find("count").textContent = `searching … ${Math.round((100 * row) / total)} %`;
        await new Promise(requestAnimationFrame);
        if (search !== latest) return null;
        last = performance.now();
      }
    }
    return search === latest ? found : null;
  }

  const ready = []; // unpacked chunks, which need not be waited for
  function chunkOf(row) {
    const number = Math.floor(row / chunkRows);
    if (ready[number]) return ready[number][row % chunkRows];
    return chunk(number).then((bodies) => (ready[number] = bodies)[row % chunkRows]);
  }

  async function select() {
    const search = ++latest;
    const chosen = filters.map((name) => [name, find(name).value]).filter(([, value]) => value);
    let matching = [];
    for (let row = 0; row < total; row++)
      if (
        chosen.every(([name, value]) => {
          const label = names[name][rows[name][row]];
          return value[0] === "-" ? label !== value.slice(1) : label === value;
        })
      )
        matching.push(row);
    const words = find("search").value.split(/\s+/).filter(Boolean);
    if (words.length) matching = await searched(matching, words, search);
    if (!matching) return false;
    const order = find("sort").value;
    if (order) {
      const values = rows[order.replace("-", "")];
      const sign = order[0] === "-" ? -1 : 1;
      const known = matching.filter((row) => values[row] !== null).sort((a, b) => sign * (values[a] - values[b]) || a - b);
      matching = [...known, ...matching.filter((row) => values[row] === null)];
    }
    shown = matching;
    find("count").textContent = `${shown.length.toLocaleString("en")} of ${total.toLocaleString("en")} rows`;
    return true;
  }

  function remember() {
    const chosen = controls.filter((name) => find(name).value).map((name) => [name, find(name).value]);
    if (page) chosen.push(["page", page + 1]);
    history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
  }

  async function change() {
    page = 0;
    remember();
    if (await select()) showPage();
  }

  function turn(pages) {
    page += pages;
    showPage();
    remember();
    find("rows").scrollIntoView();
  }

  async function recall() {
    const chosen = new URLSearchParams(location.hash.slice(1));
    const id = chosen.get("id");
    const row = place.get(`${chosen.get("run")}\n${id}`) ?? place.get(id);
    for (const name of controls) {
      find(name).value = chosen.get(name) ?? "";
      if (find(name).selectedIndex < 0) find(name).value = ""; // this page has no such group or run
    }
    page = (parseInt(chosen.get("page")) || 1) - 1;
    if (!(await select())) return;
    if (row !== undefined && !shown.includes(row)) shown = [row, ...shown]; // a filter in the address leaves it out
    if (row !== undefined) page = Math.floor(shown.indexOf(row) / PAGE_ROWS);
    showPage();
    if (row === undefined) return;
    const details = list.querySelector(`[data-row="${row}"] details`);
    details.open = true;
    await fill(details, row);
    details.parentElement.scrollIntoView();
    details.querySelector("summary").focus({ preventScroll: true });
  }

  function step(by) {
    const summaries = [...list.querySelectorAll("summary")];
    const here = summaries.findIndex((summary) => summary.parentElement.contains(document.activeElement));
    const next = summaries[Math.min(summaries.length - 1, Math.max(0, here + by))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  const keys = { j: () => step(1), k: () => step(-1), n: () => find("next").click(), p: () => find("previous").click() };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.key === "Escape" && typing) {
      event.preventDefault();  // a browser would empty the search without an event
      event.target.blur();
    } else if (event.key === "/" && !typing) {
      event.preventDefault();
      find("search").focus();
    } else if (!typing) keys[event.key]?.();
  });
  let waiting;
  find("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(change, 150);
  });
  for (const name of [...filters, "sort"]) find(name).addEventListener("input", change);
  find("open").addEventListener("change", openAll);
  find("next").addEventListener("click", () => turn(1));
  find("previous").addEventListener("click", () => turn(-1));
  addEventListener("hashchange", recall);
  await recall();
  document.documentElement.dataset.ready = "yes";
}

if (find("list")) {
  if (typeof DecompressionStream === "undefined")
    find("list").textContent = "This browser is too old to unpack the rows: use one of 2023 or later.";
  else start();
}
