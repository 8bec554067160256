// Everything works without this. With it "/" goes to the search field, and leaving a half-written form asks first.
document.addEventListener("keydown", (event) => {
  const field = document.getElementById("first") || document.getElementById("find");
  if (event.key === "/" && field && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    field.focus();
  }
});
let changed = false;
for (const form of document.querySelectorAll("form.stack")) {
  form.addEventListener("input", () => { changed = true; });
  form.addEventListener("submit", () => { changed = false; });
}
addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
// A graph that is wider than the screen begins with its root in view, a chart of years with the last.
for (const chart of document.querySelectorAll(".years")) chart.parentElement.scrollLeft = chart.parentElement.scrollWidth;
for (const box of document.querySelectorAll(".drawing")) {
  const root = box.querySelector(".root rect");
  if (!root || box.scrollWidth <= box.clientWidth) continue;
  const seen = root.getBoundingClientRect(), own = box.getBoundingClientRect();
  box.scrollLeft += seen.left + seen.width / 2 - own.left - own.width / 2;
}
