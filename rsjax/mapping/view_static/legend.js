// The panel: classes shown, one highlighted; opacity; what is compared.
function highlight(k) {
  state.highlight = state.highlight === k ? -1 : k;
  for (const row of document.querySelectorAll("#legend tr[data-class]")) {
    const on = Number(row.dataset.class) === state.highlight;
    row.querySelector("button").setAttribute("aria-pressed", on);
    if (on) { // what is highlighted is shown
      row.querySelector("input").checked = true;
      state.hidden.delete(k);
    }
  }
  const note = $("shown");
  note.hidden = state.highlight < 0;
  note.textContent = note.hidden ? "" : `striped: ${named(k)}`;
  repaint();
}

function show(k, shown) {
  if (shown) state.hidden.delete(k);
  else state.hidden.add(k);
  if (!shown && state.highlight === k) highlight(k);
  repaint();
}

function setMode(mode) {
  state.mode = mode;
  for (const id of ["left", "right", "swipe"]) $(id).hidden = mode === "over";
  $("left").textContent = data.titles[mode] || "";
  $("right").textContent = data.titles.map;
  setSwipe(state.swipe);
}

function setSwipe(share) {
  state.swipe = Math.min(1, Math.max(0, share));
  const handle = $("swipe");
  handle.style.left = 100 * state.swipe + "%";
  const percent = Math.round(100 * state.swipe);
  handle.setAttribute("aria-valuenow", percent);
  handle.setAttribute("aria-valuetext", `${$("left").textContent} in the left ${percent} percent`);
  repaint();
}

for (const row of document.querySelectorAll("#legend tr[data-class]")) {
  const k = Number(row.dataset.class);
  row.querySelector("button").addEventListener("click", () => highlight(k));
  row.querySelector("input").addEventListener("change", (event) => show(k, event.target.checked));
}
for (const choice of document.querySelectorAll("input[name=mode]")) {
  choice.addEventListener("change", () => setMode(choice.value));
}
$("opacity").addEventListener("input", (event) => {
  state.opacity = event.target.value / 100;
  $("opacity-value").textContent = event.target.value + " %";
  repaint();
});
