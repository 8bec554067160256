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
