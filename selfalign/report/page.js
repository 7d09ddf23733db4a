// Shows the examples that fit the search, the reason and the category. What is chosen stands in the page's address.
"use strict";

const controls = ["search", "reason", "category"].map((id) => document.getElementById(id));
const count = document.getElementById("count");
const examples = [...document.querySelectorAll("article")].map((element) => ({
  element,
  text: element.textContent.toLowerCase(),
}));

function show() {
  const [search, reason, category] = controls.map((control) => control.value);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { element, text } of examples) {
    const { reason: its, category: kind } = element.dataset;
    const fits =
      (!reason || (reason === "rejected" ? its !== "accepted" : its === reason)) &&
      (!category || kind === category) &&
      words.every((word) => text.includes(word));
    element.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${examples.length} examples`;
}

function remember() {
  const chosen = controls.filter((control) => control.value).map((control) => [control.id, control.value]);
  history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
  show();
}

function recall() {
  const chosen = new URLSearchParams(location.hash.slice(1));
  for (const control of controls) {
    control.value = chosen.get(control.id) ?? "";
    if (control.selectedIndex < 0) control.value = ""; // no such reason or category here
  }
  show();
}

for (const control of controls) control.addEventListener("input", remember);
document.getElementById("open").addEventListener("change", (event) => {
  for (const { element } of examples) element.querySelector("details").open = event.target.checked;
});
addEventListener("hashchange", recall);
recall();
