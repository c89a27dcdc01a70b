// Mouse, touch, keys and buttons; then the start.
const STEP = 80; // screen pixels that an arrow key moves the map
const TIMES = 1.6; // that a key or button zooms
const STILL = 5; // screen pixels that a click may wander
const touching = new Map(); // pointer -> [x, y]
let wandered = 0;

function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

canvas.addEventListener("pointerdown", (event) => {
  if (touching.size === 0) wandered = 0;
  else wandered = Infinity; // two fingers mean no click
  touching.set(event.pointerId, placeOf(event));
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  const before = touching.get(event.pointerId);
  if (!before) return;
  const now = placeOf(event);
  const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
  wandered += Math.hypot(dx, dy);
  const other = [...touching].find(([id]) => id !== event.pointerId);
  touching.set(event.pointerId, now);
  if (other) { // pinch: the other finger stays where it is on the map
    const far = (from) => Math.hypot(from[0] - other[1][0], from[1] - other[1][1]);
    if (far(before) > 1) zoom(far(now) / far(before), ...other[1]);
  } else if (wandered > STILL) {
    pan(dx, dy);
  }
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    const there = touching.delete(event.pointerId);
    if (name === "pointerup" && there && wandered <= STILL) identify(...placeOf(event));
  });
}
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  zoom(Math.exp(-event.deltaY * lines * 0.002), ...placeOf(event));
}, { passive: false });

const middle = () => [canvas.clientWidth / 2, canvas.clientHeight / 2];
const keys = {
  ArrowLeft: () => pan(STEP, 0), ArrowRight: () => pan(-STEP, 0),
  ArrowUp: () => pan(0, STEP), ArrowDown: () => pan(0, -STEP),
  "+": () => zoom(TIMES), "=": () => zoom(TIMES), "-": () => zoom(1 / TIMES),
  "0": fit, "1": () => zoom(1 / camera.scale),
  Enter: () => identify(...middle()), " ": () => identify(...middle()), Escape: clear,
};
canvas.addEventListener("keydown", (event) => {
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
});
canvas.addEventListener("focus", repaint);
canvas.addEventListener("blur", repaint);
$("zoom-in").addEventListener("click", () => zoom(TIMES));
$("zoom-out").addEventListener("click", () => zoom(1 / TIMES));
$("fit").addEventListener("click", fit);
$("one").addEventListener("click", () => zoom(1 / camera.scale));

const handle = $("swipe");
handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
handle.addEventListener("pointermove", (event) => {
  if (handle.hasPointerCapture(event.pointerId)) {
    setSwipe(placeOf(event)[0] / canvas.clientWidth);
  }
});
handle.addEventListener("keydown", (event) => {
  const to = { ArrowLeft: state.swipe - 0.02, ArrowRight: state.swipe + 0.02, Home: 0, End: 1 };
  if (!(event.key in to)) return;
  event.preventDefault();
  setSwipe(to[event.key]);
});

readAll().then(() => {
  $("opacity").dispatchEvent(new Event("input"));
  fit();
  // A map that was seen as a whole still is in a window of another size.
  new ResizeObserver(() => camera.fitted ? fit() : repaint()).observe(canvas);
  $("stage").setAttribute("aria-busy", "false");
}, (error) => {
  $("fault").textContent = error.message || "The map's picture cannot be read.";
  $("fault").hidden = false;
});
