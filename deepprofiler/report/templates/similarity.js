
// The heat map: similarities of treatments, in the order of their clustering.
const startSimilarity = () => {
  const data = JSON.parse(byId("similarity-data").textContent);
  const DIVERGING = ["#08519c", "#6baed6", "#f7f7f7", "#fdae61", "#b35806"];
  const canvas = byId("similarity-canvas");
  const context = canvas.getContext("2d");
  const card = byId("similarity-card");
  const count = data.names.length;
  let layout = {};

  const counts = new Map();
  data.groups.forEach((group) => { if (group) counts.set(group, (counts.get(group) ?? 0) + 1); });
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const named = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || order(a, b)).slice(0, COLOURS.length).sort(order);
  const colours = new Map(named.map((group, at) => [group, COLOURS[at]]));
  const OTHER = "#c9d0d6";

  const mix = DIVERGING.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  const colour = (hundredths) => {
    const place = ((hundredths + 100) / 200) * (mix.length - 1);
    const start = Math.min(Math.floor(place), mix.length - 2);
    return mix[start].map((low, at) => low + (mix[start + 1][at] - low) * (place - start));
  };

  // An image with one pixel per pair, which is scaled when drawn.
  const pixels = element("canvas", { width: count, height: count });
  const image = new ImageData(count, count);
  data.matrix.forEach((value, at) => image.data.set([...colour(value), 255], 4 * at));
  pixels.getContext("2d").putImageData(image, 0, 0);

  const draw = (row = -1, column = -1) => {
    const room = canvas.parentElement.clientWidth;
    const wide = room > 600;
    const label = wide ? 130 : 0;
    const strip = named.length ? 10 : 0;
    const gap = named.length ? 6 : 2;
    const side = Math.min(room - label - strip - gap, 820);
    canvas.style.width = `${label + strip + gap + side}px`;
    canvas.style.height = `${side}px`;
    const [width, height] = sharpen(canvas, context);
    context.clearRect(0, 0, width, height);
    const step = side / count;
    const left = label + strip + gap;
    layout = { left, step, side };
    context.imageSmoothingEnabled = false;
    context.drawImage(pixels, left, 0, side, side);
    const size = Math.min(11, step);
    context.font = `${size}px system-ui, sans-serif`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    data.groups.forEach((group, at) => {
      context.fillStyle = colours.get(group) ?? OTHER;
      context.fillRect(label + 2, at * step, strip, Math.ceil(step));
      if (label && size >= 7) {
        context.fillStyle = at === row ? "#000" : "#4a5866";
        const name = data.names[at] || "(blank)";
        context.fillText(name.length > 20 ? `${name.slice(0, 19)}…` : name, label - 3, (at + 0.5) * step);
      }
    });
    if (row >= 0) {
      context.strokeStyle = "#1b2733";
      context.lineWidth = 1;
      context.strokeRect(left, row * step, side, step);
      context.strokeRect(left + column * step, 0, step, side);
    }
  };

  const fullName = (at) => `${data.names[at] || "(blank)"}${data.groups[at] ? ` (${data.groups[at]})` : ""}`;
  canvas.addEventListener("pointermove", (event) => {
    const bounds = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
    const [row, column] = [Math.floor(y / layout.step), Math.floor((x - layout.left) / layout.step)];
    if (row < 0 || column < 0 || row >= count || column >= count) {
      card.hidden = true;
      draw();
      return;
    }
    draw(row, column);
    const value = (data.matrix[row * count + column] / 100).toFixed(2).replace("-", "−");
    placeCard(card, x, y, canvas.parentElement.clientWidth, bounds.height, pairs([
      ["row", fullName(row)], ["column", fullName(column)], ["similarity", value]]));
  });
  canvas.addEventListener("pointerleave", () => {
    card.hidden = true;
    draw();
  });

  const legend = named.map((group) => element("span", { className: "key", title: group },
    swatch({ shape: 2, colour: colours.get(group) }), element("span", { textContent: group })));
  if (named.length && data.groups.some((group) => !colours.has(group))) {
    legend.push(element("span", { className: "key" }, swatch({ shape: 2, colour: OTHER }), "other or unknown"));
  }
  byId("similarity-legend").replaceChildren(element("div", { className: "scale" },
    element("b", { textContent: "cosine similarity" }), "−1", ramp(DIVERGING), "1"), ...legend);
  byId("similarity-caption").textContent = data.caption;
  let width = 0;
  // Drawing changes the height, so it waits until all sizes are observed.
  new ResizeObserver(() => requestAnimationFrame(() => {
    const room = canvas.parentElement.clientWidth;
    if (room === width) return;
    width = room;
    draw();
  })).observe(canvas.parentElement);
  draw();
};

if (byId("similarity-data")) startSimilarity();
