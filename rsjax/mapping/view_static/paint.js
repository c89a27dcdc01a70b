// Draws what the camera sees. Classes are coloured screen pixel by screen pixel from their indices,
// so a colour on the screen is always that of a class, and stripes keep their width at any zoom.
const state = {
  mode: "over", // or "before", "scene": the picture left of the swipe
  opacity: 1,
  swipe: 0.5, // of the width
  hidden: new Set(), // classes
  highlight: -1, // a class
  marked: null, // [row, col] that is identified
};
const screen = canvas.getContext("2d");
const sheet = document.createElement("canvas");
const DIM = 50; // alpha of the others while one class is highlighted
const RARE = 0.01; // share of the pixels drawn
const STRIPE = [3, 12]; // width and distance of the stripes, in screen pixels
let waiting = false;

function repaint() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; paint(); });
}

// Colours by class index, as the four bytes of a pixel: plain, and of a highlighted class striped.
function palette() {
  const plain = new Uint32Array(256);
  const bytes = new Uint8Array(plain.buffer);
  data.classes.forEach((one, k) => {
    const dim = state.highlight >= 0 && state.highlight !== k;
    const rgb = [1, 3, 5].map((i) => parseInt(one.colour.slice(i, i + 2), 16));
    bytes.set([...rgb, state.hidden.has(k) ? 0 : dim ? DIM : 255], 4 * k);
  });
  const dark = plain.slice(), light = plain.slice();
  if (state.highlight >= 0 && !state.hidden.has(state.highlight)) {
    new Uint8Array(dark.buffer).set([0, 0, 0, 255], 4 * state.highlight);
    new Uint8Array(light.buffer).set([255, 255, 255, 255], 4 * state.highlight);
  }
  return { plain, dark, light };
}

// Colours columns [from, to) of the sheet with a layer of classes.
function colour(image, layer, from, to, ratio) {
  const { plain, dark, light } = palette();
  const step = camera.scale * ratio * data.factor; // pixels of the sheet a pixel of the layer
  const [left, top] = [camera.left * ratio, camera.top * ratio];
  const at = new Int32Array(to - from); // column of the layer, -1 beyond it
  for (let x = from; x < to; x++) {
    const col = Math.floor((x + 0.5 - left) / step);
    at[x - from] = col >= 0 && col < layer.cols ? col : -1;
  }
  const [wide, every] = STRIPE.map((n) => Math.round(n * ratio));
  for (let y = 0; y < image.height; y++) {
    const row = Math.floor((y + 0.5 - top) / step);
    if (row < 0 || row >= layer.rows) continue;
    const start = row * layer.cols;
    const pixels = new Uint32Array(image.data.buffer, 4 * y * image.width, image.width);
    for (let x = from; x < to; x++) {
      const col = at[x - from];
      if (col < 0) continue;
      const k = layer.values[start + col];
      const place = k === state.highlight ? (x + y) % every : every;
      pixels[x] = (place < wide ? dark : place < wide + ratio ? light : plain)[k];
    }
  }
  const rare = layer.counts[state.highlight] < RARE * layer.values.length;
  if (step < 1 && rare) findAll(image, layer, from, to, left, top, step, plain);
}

// Where several pixels of the layer share one of the screen, none that is highlighted is missed.
// Of rare classes only: common ones would seem larger than they are.
function findAll(image, layer, from, to, left, top, step, plain) {
  const pixels = new Uint32Array(image.data.buffer);
  const range = (low, high, at, most) => [Math.max(0, Math.ceil((low - at) / step - 0.5)),
    Math.min(most, Math.ceil((high - at) / step - 0.5))];
  const [firstRow, lastRow] = range(0, image.height, top, layer.rows);
  const [firstCol, lastCol] = range(from, to, left, layer.cols);
  for (let row = firstRow; row < lastRow; row++) {
    const y = Math.floor(top + (row + 0.5) * step);
    for (let col = firstCol; col < lastCol; col++) {
      if (layer.values[row * layer.cols + col] !== state.highlight) continue;
      const at = y * image.width + Math.floor(left + (col + 0.5) * step);
      if (pixels[at] >>> 24 < 255) pixels[at] = plain[state.highlight];
    }
  }
}

function drawScene(ratio) {
  if (!scene) return;
  const [west, north, east, south] = data.scene.box;
  const size = camera.scale * ratio;
  screen.imageSmoothingEnabled = size * (east - west) < scene.naturalWidth;
  screen.drawImage(scene, camera.left * ratio + west * size, camera.top * ratio + north * size,
    (east - west) * size, (south - north) * size);
}

function paint() {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height || !layers.map) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = sheet.width = width;
    canvas.height = sheet.height = height;
  }
  screen.clearRect(0, 0, width, height);
  drawScene(ratio);
  const border = state.mode === "over" ? 0 : Math.round(state.swipe * width);
  const pen = sheet.getContext("2d");
  const image = pen.createImageData(width, height);
  if (state.mode === "before") colour(image, layers.before, 0, border, ratio);
  colour(image, layers.map, border, width, ratio);
  pen.putImageData(image, 0, 0);
  screen.globalAlpha = state.opacity;
  screen.drawImage(sheet, 0, 0);
  screen.globalAlpha = 1;
  outline(ratio);
  mark(ratio);
  cross(ratio, width, height);
  scaleBar();
}

// Where the map ends, also where it has no class.
function outline(ratio) {
  screen.strokeStyle = "#888";
  screen.lineWidth = 1;
  const size = camera.scale * ratio;
  screen.strokeRect(camera.left * ratio - 0.5, camera.top * ratio - 0.5, data.cols * size + 1,
    data.rows * size + 1);
}

// A frame around the identified pixel, or around those that it stands for.
function mark(ratio) {
  if (!state.marked) return;
  const [row, col] = state.marked.map((at) => Math.floor(at / data.factor) * data.factor);
  const size = camera.scale * data.factor;
  const grow = Math.max(0, (10 - size) / 2); // a small one is framed at some distance
  const box = [camera.left + col * camera.scale - grow, camera.top + row * camera.scale - grow,
    size + 2 * grow, size + 2 * grow].map((n) => n * ratio);
  for (const [ink, wide] of [["#fff", 5], ["#000", 2]]) {
    screen.strokeStyle = ink;
    screen.lineWidth = wide * ratio;
    screen.strokeRect(...box);
  }
}

// The cross at the middle, for who moves the map by keys.
function cross(ratio, width, height) {
  if (!canvas.matches(":focus-visible")) return;
  const [x, y, arm] = [Math.round(width / 2), Math.round(height / 2), 12 * ratio];
  for (const [ink, wide] of [["#fff", 5], ["#000", 2]]) {
    screen.strokeStyle = ink;
    screen.lineWidth = wide * ratio;
    screen.beginPath();
    screen.moveTo(x - arm, y);
    screen.lineTo(x + arm, y);
    screen.moveTo(x, y - arm);
    screen.lineTo(x, y + arm);
    screen.stroke();
  }
}

// A bar of a round length, at most 140 screen pixels long; in the map's units without a place.
function scaleBar() {
  const metres = metresAcross();
  const across = metres || Math.hypot(data.transform[0], data.transform[3]) / camera.scale;
  const most = 140 * across;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= most);
  const bar = $("scale");
  bar.hidden = false;
  bar.style.width = length / across + "px";
  bar.firstElementChild.textContent = !metres ? `${+length.toPrecision(1)} units`
    : length >= 1000 ? `${length / 1000} km` : `${+length.toPrecision(1)} m`;
}
