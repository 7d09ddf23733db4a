// Shows the examples that match the search, the reason and the category, and keeps these in the page's address.
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
    const { reason: itsReason, category: itsCategory } = element.dataset;
    const matches =
      (!reason || (reason === "rejected" ? itsReason !== "accepted" : itsReason === reason)) &&
      (!category || itsCategory === category) &&
      words.every((word) => text.includes(word));
    element.hidden = !matches;
    shown += matches;
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
    if (control.selectedIndex < 0) control.value = ""; // this page has no such reason or category
  }
  show();
}

for (const control of controls) control.addEventListener("input", remember);
document.getElementById("open").addEventListener("change", (event) => {
  for (const { element } of examples) element.querySelector("details").open = event.target.checked;
});
addEventListener("hashchange", recall);
recall();
