// Where the map lies on the screen: `scale` screen pixels a pixel of the map, whose corner is at
// (left, top) of the canvas.
const camera = { scale: 1, left: 0, top: 0, fitted: false };
const canvas = $("canvas");
const LARGEST = 64; // screen pixels a pixel

function fitScale() {
  return Math.min(canvas.clientWidth / data.cols, canvas.clientHeight / data.rows);
}

function fit() {
  camera.scale = 0.96 * fitScale();
  camera.left = (canvas.clientWidth - camera.scale * data.cols) / 2;
  camera.top = (canvas.clientHeight - camera.scale * data.rows) / 2;
  camera.fitted = true;
  repaint();
}

// Zooms about a point of the canvas that stays where it is.
function zoom(times, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const least = Math.min(1, fitScale() / 2);
  const scale = Math.min(LARGEST, Math.max(least, camera.scale * times));
  camera.left = x - (x - camera.left) * scale / camera.scale;
  camera.top = y - (y - camera.top) * scale / camera.scale;
  camera.scale = scale;
  pan(0, 0);
}

// Moves the map; a part of it stays in sight.
function pan(x, y) {
  const keep = 60;
  const within = (at, size, room) => Math.min(room - keep, Math.max(keep - size, at));
  camera.left = within(camera.left + x, camera.scale * data.cols, canvas.clientWidth);
  camera.top = within(camera.top + y, camera.scale * data.rows, canvas.clientHeight);
  camera.fitted = false;
  repaint();
}

// (row, col) of the map at a point of the canvas, with fractions.
function toMap(x, y) {
  return [(y - camera.top) / camera.scale, (x - camera.left) / camera.scale];
}

// Longitude and latitude of (row, col), from the lattice that the page carries; null without one.
function toDegrees(row, col) {
  if (!data.place) return null;
  const steps = data.place.lon.length - 1;
  const along = (at, size) => {
    const part = at / size * steps;
    const first = Math.min(steps - 1, Math.max(0, Math.floor(part)));
    return [first, part - first];
  };
  const [i, down] = along(row, data.rows);
  const [j, right] = along(col, data.cols);
  const between = (grid) =>
    (grid[i][j] * (1 - right) + grid[i][j + 1] * right) * (1 - down) +
    (grid[i + 1][j] * (1 - right) + grid[i + 1][j + 1] * right) * down;
  const lon = between(data.place.lon);
  return [((lon + 180) % 360 + 360) % 360 - 180, between(data.place.lat)];
}

// Metres on the ground that one screen pixel spans, at the middle of the canvas.
function metresAcross() {
  const [row, col] = toMap(canvas.clientWidth / 2, canvas.clientHeight / 2);
  const inside = (at, size) => Math.min(size - 0.5, Math.max(0.5, at));
  const [r, c] = [inside(row, data.rows), inside(col, data.cols)];
  const [a, b] = [toDegrees(r, c - 0.5), toDegrees(r, c + 0.5)];
  if (!a) return null;
  const radians = Math.PI / 180;
  const east = ((b[0] - a[0] + 540) % 360 - 180) * radians * Math.cos(a[1] * radians);
  const north = (b[1] - a[1]) * radians;
  return 6371008.8 * Math.hypot(east, north) / camera.scale;
}
