// Tells what the map has at a pixel.
function identify(x, y) {
  if (!layers.map) return;
  const [row, col] = toMap(x, y).map(Math.floor);
  if (row < 0 || col < 0 || row >= data.rows || col >= data.cols) return clear();
  // Of a thinned map, the pixel that is drawn for its neighbours too: the page knows no other.
  const drawn = (at, size) => data.factor === 1 ? at : Math.min(
    Math.floor(at / data.factor) * data.factor + Math.floor(data.factor / 2), size - 1);
  state.marked = [drawn(row, data.rows), drawn(col, data.cols)];
  describe();
  repaint();
}

function clear() {
  state.marked = null;
  tell([paragraph("Click or tap a pixel to identify it.")]);
  repaint();
}

function describe() {
  const [row, col] = state.marked;
  const [a, b, c, d, e, f] = data.transform;
  const x = a * (col + 0.5) + b * (row + 0.5) + c;
  const y = d * (col + 0.5) + e * (row + 0.5) + f;
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.hypot(a, d))));
  const pairs = [["row, column", `${row}, ${col}`]];
  if (!data.wgs84) pairs.push(["x, y", `${x.toFixed(digits)}, ${y.toFixed(digits)}`]);
  const place = toDegrees(row + 0.5, col + 0.5);
  const of = data.wgs84 ? "x, y = lon, lat" : "lon, lat (WGS 84)";
  const number = (value) => value.toFixed(data.wgs84 ? Math.min(8, digits) : 6);
  if (place) pairs.push([of, place.map(number).join(", ")]);
  if (layers.before) pairs.push(["before", named(valueAt("before", row, col))]);
  if (layers.confidence) {
    const value = valueAt("confidence", row, col);
    const text = value === NONE ? "none" : `${(value * 0.004).toFixed(3)}, ${data.meaning}`;
    pairs.push(["confidence", text]);
  }
  if (data.factor > 1) {
    pairs.push(["drawn for", `${data.factor} × ${data.factor} pixels around it`]);
  }
  const head = document.createElement("b");
  const k = valueAt("map", row, col);
  if (k !== NONE) head.append(chip(k));
  head.append(k === NONE ? "no class" : data.classes[k].name);
  const list = document.createElement("dl");
  for (const [name, value] of pairs) {
    for (const [tag, text] of [["dt", name], ["dd", value]]) {
      const cell = document.createElement(tag);
      cell.textContent = text;
      list.append(cell);
    }
  }
  tell([head, list]);
}

function named(k) {
  return k === NONE ? "no class" : `${data.classes[k].name} (${data.classes[k].code})`;
}

// The square of a class, as in the legend.
function chip(k) {
  const found = document.querySelector(`#legend tr[data-class="${k}"] .chip`).cloneNode(true);
  found.style.marginRight = "8px";
  return found;
}

function paragraph(text) {
  const found = document.createElement("p");
  found.className = "soft";
  found.textContent = text;
  return found;
}

function tell(nodes) {
  $("identify").replaceChildren(...nodes);
}
