
// The map of wells, treatments or cells: points on a canvas.
const startMap = () => {
  const maps = JSON.parse(byId("map-data").textContent);
  const canvas = byId("canvas");
  const context = canvas.getContext("2d");
  const card = byId("card");
  // level: highlighted in the legend; hovered: row of the point whose card is shown, or -1.
  const state = { map: null, column: null, symbols: [], level: null, query: "", zoom: 1, x: 0, y: 0, hovered: -1 };
  let texts = [];
  let width = 0;
  let height = 0;

  const position = (row) => {
    const scale = state.zoom * state.fit;
    return [
      width / 2 + (state.map.x[row] - state.x) * scale,
      height / 2 - (state.map.y[row] - state.y) * scale,
    ];
  };

  const highlighted = (row) =>
    (state.level === null || state.column.codes[row] === state.level) &&
    (state.query === "" || texts[row].includes(state.query));

  const symbol = (row) => {
    if (!state.column.numbers) return state.symbols[state.column.codes[row]];
    const value = state.column.numbers[row];
    const [low, high] = state.range;
    return { shape: 0, colour: value === null ? FAINT : viridis((value - low) / (high - low || 1)) };
  };

  const draw = () => {
    [width, height] = sharpen(canvas, context);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    const { map } = state;
    const count = map.x.length;
    state.fit = 0.9 * Math.min(width / state.span[0], height / state.span[1]);
    const radius = Math.min(Math.max(110 / Math.sqrt(count), 2.4), 6.5) * Math.min(Math.sqrt(state.zoom), 2);
    state.radius = radius;
    for (const front of [false, true]) {
      for (let row = 0; row < count; row += 1) {
        if (highlighted(row) !== front) continue;
        const [x, y] = position(row);
        const { shape, colour } = symbol(row);
        outline(context, shape, x, y, radius);
        context.fillStyle = front ? colour : "#e9edf0";
        context.fill();
        context.lineWidth = 0.7;
        context.strokeStyle = "#fff";
        context.stroke();
      }
    }
    if (state.hovered >= 0) {
      const [x, y] = position(state.hovered);
      outline(context, 0, x, y, radius + 3);
      context.lineWidth = 2;
      context.strokeStyle = "#1b2733";
      context.stroke();
    }
    context.fillStyle = "#5f6c79";
    context.font = "11px system-ui, sans-serif";
    context.fillText("axis 1 (arbitrary unit) →", 10, height - 10);
    context.save();
    context.translate(15, height - 28);
    context.rotate(-Math.PI / 2);
    context.fillText("axis 2 (arbitrary unit) →", 0, 0);
    context.restore();
  };

  const resetZoom = () => {
    const centreAndSpan = (values) => {
      const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
      return [(low + high) / 2, high - low || 1];
    };
    const [x, wide] = centreAndSpan(state.map.x);
    const [y, tall] = centreAndSpan(state.map.y);
    Object.assign(state, { zoom: 1, x, y, span: [wide, tall], hovered: -1 });
    card.hidden = true;
  };

  const describe = () => {
    const { map } = state;
    const total = map.x.length;
    let count = 0;
    for (let row = 0; row < total; row += 1) count += highlighted(row);
    byId("map-caption").textContent = `${map.caption} ${count === total ? `${total} points.` : `${count} of ${total} points highlighted.`}`;
  };

  const legend = () => {
    const box = byId("legend");
    const { column } = state;
    box.replaceChildren();
    if (column.numbers) {
      const [low, high] = state.range.map((value) => element("span", { textContent: valueText(value) }));
      const parts = [element("b", { textContent: column.name }), low, ramp(VIRIDIS), high];
      const missing = column.numbers.filter((value) => value === null).length;
      if (missing) parts.push(swatch({ shape: 0, colour: FAINT }), element("span", { textContent: `missing (${missing})` }));
      box.append(element("div", { className: "scale" }, ...parts));
      return;
    }
    const counts = column.levels.map(() => 0);
    column.codes.forEach((code) => { counts[code] += 1; });
    column.levels.forEach((level, code) => {
      const name = level || "(blank)";
      const button = element("button", { type: "button", title: name },
        swatch(state.symbols[code]), element("span", { textContent: name }), element("small", { textContent: String(counts[code]) }));
      button.setAttribute("aria-pressed", String(state.level === code));
      button.addEventListener("click", () => {
        state.level = state.level === code ? null : code;
        [...box.children].forEach((other) => other.setAttribute("aria-pressed", "false"));
        button.setAttribute("aria-pressed", String(state.level === code));
        describe();
        draw();
      });
      box.append(button);
    });
  };

  const colourBy = (index) => {
    const column = state.map.columns[index];
    state.column = column;
    state.level = null;
    if (column.numbers) {
      state.range = rangeOf(column.numbers);
    } else {
      // With more names than colours times shapes, the rarer ones are grey; they can be clicked.
      const counts = column.levels.map(() => 0);
      column.codes.forEach((code) => { counts[code] += 1; });
      const limit = COLOURS.length * SHAPES;
      // A blank name has no colour.
      const order = counts.map((_, code) => code).filter((code) => column.levels[code]).sort((a, b) => counts[b] - counts[a] || a - b);
      const kept = order.slice(0, limit).sort((a, b) => a - b);
      state.symbols = counts.map(() => ({ shape: 0, colour: "#a9b3bd" }));
      kept.forEach((code, index) => {
        state.symbols[code] = { shape: Math.floor(index / COLOURS.length), colour: COLOURS[index % COLOURS.length] };
      });
    }
    legend();
    describe();
    draw();
  };

  const show = (index) => {
    state.map = maps[index];
    const previous = state.column ? state.column.name : null;
    const { columns } = state.map;
    texts = state.map.x.map((_, row) => columns.map((column) => columnText(column, row)).join("\n").toLowerCase());
    options(byId("colour"), columns.map((column) => column.name));
    const chosen = Math.max(0, columns.findIndex((column) => column.name === previous));
    byId("colour").value = String(chosen);
    resetZoom();
    colourBy(chosen);
  };

  // Shows the card of the point next to the pointer.
  const pick = (event, reach) => {
    const bounds = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
    let best = -1;
    let least = reach * reach;
    for (let row = 0; row < state.map.x.length; row += 1) {
      if (!highlighted(row)) continue;
      const [px, py] = position(row);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
    if (best === state.hovered) return;
    state.hovered = best;
    card.hidden = best < 0;
    if (best >= 0) {
      const parts = [pairs(state.map.columns.map((column) => [column.name, columnText(column, best)]))];
      const { sheet } = state.map;
      if (sheet) {
        const picture = element("div", { className: "thumbnail" });
        picture.style.backgroundImage = `url(${sheet.image})`;
        picture.style.backgroundSize = `${80 * sheet.across}px`;
        picture.style.backgroundPosition = `${-80 * (best % sheet.across)}px ${-80 * Math.floor(best / sheet.across)}px`;
        parts.unshift(picture);
      }
      const [px, py] = position(best);
      placeCard(card, px, py, width, height, ...parts);
    }
    draw();
  };

  const zoom = (factor, clientX, clientY) => {
    const bounds = canvas.getBoundingClientRect();
    const dx = (clientX ?? bounds.left + width / 2) - bounds.left - width / 2;
    const dy = (clientY ?? bounds.top + height / 2) - bounds.top - height / 2;
    const next = Math.min(Math.max(state.zoom * factor, 0.5), 60);
    const gain = (1 / state.zoom - 1 / next) / state.fit;
    state.x += dx * gain;
    state.y -= dy * gain;
    state.zoom = next;
    state.hovered = -1;
    card.hidden = true;
    draw();
  };

  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    if (event.pointerType !== "mouse") pick(event, 26);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) {
      pick(event, Math.max(12, state.radius + 4));
      return;
    }
    const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    if (other) {
      const gap = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY) || 1;
      zoom(gap(event) / gap(before), other.clientX, other.clientY);
    } else if (event.clientX !== before.clientX || event.clientY !== before.clientY) {
      const scale = state.zoom * state.fit;
      state.x -= (event.clientX - before.clientX) / scale;
      state.y += (event.clientY - before.clientY) / scale;
      state.hovered = -1;
      card.hidden = true;
      draw();
    }
    fingers.set(event.pointerId, event);
  });
  ["pointerup", "pointercancel"].forEach((kind) =>
    canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId)));
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "mouse" || state.hovered < 0) return;
    state.hovered = -1;
    card.hidden = true;
    draw();
  });
  canvas.addEventListener("wheel", (event) => {
    // A plain wheel scrolls the page; a pinch on a trackpad arrives as a wheel with ctrl.
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 200), event.clientX, event.clientY);
  }, { passive: false });

  options(byId("map-choice"), maps.map((map) => map.name));
  byId("map-choice").addEventListener("change", (event) => show(Number(event.target.value)));
  byId("colour").addEventListener("change", (event) => colourBy(Number(event.target.value)));
  byId("find").addEventListener("input", (event) => {
    state.query = event.target.value.trim().toLowerCase();
    state.hovered = -1;
    card.hidden = true;
    describe();
    draw();
  });
  byId("closer").addEventListener("click", () => zoom(1.5));
  byId("farther").addEventListener("click", () => zoom(1 / 1.5));
  byId("reset").addEventListener("click", () => { resetZoom(); draw(); });
  new ResizeObserver(() => { if (canvas.clientWidth !== width || canvas.clientHeight !== height) draw(); }).observe(canvas);
  show(0);
};

if (byId("map-data")) startMap();
