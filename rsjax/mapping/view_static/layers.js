// What the page was given: facts as JSON, layers as grey images whose grey is the class index.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const NONE = 255; // no class, no confidence
const layers = {}; // name -> {cols, rows, values: Uint8Array, counts: [256]}
let scene = null; // an image

async function loaded(id) {
  const image = $(id);
  if (!image.complete) {
    await new Promise((done) => { image.onload = image.onerror = done; });
  }
  if (!image.naturalWidth) throw new Error(`The picture ${id} of this page is damaged.`);
  return image;
}

// Reads an image back as numbers, and counts them: some browsers alter pixels on purpose.
async function readLayer(name) {
  const image = await loaded("layer-" + name);
  const [cols, rows] = [image.naturalWidth, image.naturalHeight];
  const sheet = document.createElement("canvas");
  sheet.width = cols;
  sheet.height = rows;
  const pen = sheet.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const values = new Uint8Array(cols * rows);
  const counts = new Array(256).fill(0);
  const strip = 256; // rows at once: four bytes a pixel are needed to read one
  for (let top = 0; top < rows; top += strip) {
    const height = Math.min(strip, rows - top);
    const pixels = pen.getImageData(0, top, cols, height).data;
    for (let i = 0, at = top * cols; i < pixels.length; i += 4, at++) {
      values[at] = pixels[i];
      counts[pixels[i]]++;
    }
  }
  sheet.width = sheet.height = 0;
  image.remove();
  if (counts.some((count, value) => count !== (data.counts[name][value] || 0))) {
    throw new Error("This browser alters the pixels of pictures that a page reads (a protection " +
      "against tracking), so the map would be wrong. Allow this page to read its canvas.");
  }
  layers[name] = { cols, rows, values, counts };
}

async function readAll() {
  for (const name of Object.keys(data.counts)) await readLayer(name);
  if (data.scene) scene = await loaded("layer-scene");
}

// The value of a layer at a pixel of the map.
function valueAt(name, row, col) {
  const layer = layers[name];
  const at = Math.floor(row / data.factor) * layer.cols + Math.floor(col / data.factor);
  return layer.values[at];
}
