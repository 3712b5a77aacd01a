
// The map: points on a canvas.
const startMap = () => {
  const views = JSON.parse(byId("views").textContent);
  const canvas = byId("canvas");
  const context = canvas.getContext("2d");
  const card = byId("card");
  const state = { view: null, column: null, looks: [], chosen: null, query: "", zoom: 1, x: 0, y: 0, at: -1 };
  let texts = [];
  let width = 0;
  let height = 0;

  const place = (row) => {
    const scale = state.zoom * state.fit;
    return [
      width / 2 + (state.view.x[row] - state.x) * scale,
      height / 2 - (state.view.y[row] - state.y) * scale,
    ];
  };

  const lit = (row) =>
    (state.chosen === null || state.column.codes[row] === state.chosen) &&
    (state.query === "" || texts[row].includes(state.query));

  const look = (row) => {
    if (!state.column.numbers) return state.looks[state.column.codes[row]];
    const value = state.column.numbers[row];
    const [low, high] = state.range;
    return { shape: 0, colour: value === null ? FAINT : viridis((value - low) / (high - low || 1)) };
  };

  const draw = () => {
    [width, height] = sharpen(canvas, context);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    const { view } = state;
    const count = view.x.length;
    state.fit = 0.9 * Math.min(width / state.span[0], height / state.span[1]);
    const radius = Math.min(Math.max(110 / Math.sqrt(count), 2.4), 6.5) * Math.min(Math.sqrt(state.zoom), 2);
    state.radius = radius;
    for (const front of [false, true]) {
      for (let row = 0; row < count; row += 1) {
        if (lit(row) !== front) continue;
        const [x, y] = place(row);
        const { shape, colour } = look(row);
        outline(context, shape, x, y, radius);
        context.fillStyle = front ? colour : "#e9edf0";
        context.fill();
        context.lineWidth = 0.7;
        context.strokeStyle = "#fff";
        context.stroke();
      }
    }
    if (state.at >= 0) {
      const [x, y] = place(state.at);
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

  const whole = () => {
    const middle = (values) => {
      const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
      return [(low + high) / 2, high - low || 1];
    };
    const [x, wide] = middle(state.view.x);
    const [y, tall] = middle(state.view.y);
    Object.assign(state, { zoom: 1, x, y, span: [wide, tall], at: -1 });
    card.hidden = true;
  };

  const describe = () => {
    const { view } = state;
    const total = view.x.length;
    let count = 0;
    for (let row = 0; row < total; row += 1) count += lit(row);
    byId("about").textContent = `${view.about} ${count === total ? `${total} points.` : `${count} of ${total} points lit.`}`;
  };

  const legend = () => {
    const box = byId("legend");
    const { column } = state;
    box.replaceChildren();
    if (column.numbers) {
      const [low, high] = state.range.map((value) => element("span", { textContent: written(value) }));
      const parts = [element("b", { textContent: column.name }), low, ramp(VIRIDIS), high];
      const unknown = column.numbers.filter((value) => value === null).length;
      if (unknown) parts.push(swatch({ shape: 0, colour: FAINT }), element("span", { textContent: `not known (${unknown})` }));
      box.append(element("div", { className: "scale" }, ...parts));
      return;
    }
    const counts = column.levels.map(() => 0);
    column.codes.forEach((code) => { counts[code] += 1; });
    column.levels.forEach((level, code) => {
      const name = level || "(blank)";
      const button = element("button", { type: "button", title: name },
        swatch(state.looks[code]), element("span", { textContent: name }), element("small", { textContent: String(counts[code]) }));
      button.setAttribute("aria-pressed", String(state.chosen === code));
      button.addEventListener("click", () => {
        state.chosen = state.chosen === code ? null : code;
        [...box.children].forEach((other) => other.setAttribute("aria-pressed", "false"));
        button.setAttribute("aria-pressed", String(state.chosen === code));
        describe();
        draw();
      });
      box.append(button);
    });
  };

  const colourBy = (index) => {
    const column = state.view.columns[index];
    state.column = column;
    state.chosen = null;
    if (column.numbers) {
      state.range = rangeOf(column.numbers);
    } else {
      // More names than colours times shapes: the rarer ones are grey, and can be clicked.
      const counts = column.levels.map(() => 0);
      column.codes.forEach((code) => { counts[code] += 1; });
      const limit = COLOURS.length * SHAPES;
      // What has no name has no colour either.
      const order = counts.map((_, code) => code).filter((code) => column.levels[code]).sort((a, b) => counts[b] - counts[a] || a - b);
      const kept = order.slice(0, limit).sort((a, b) => a - b);
      state.looks = counts.map(() => ({ shape: 0, colour: "#a9b3bd" }));
      kept.forEach((code, index) => {
        state.looks[code] = { shape: Math.floor(index / COLOURS.length), colour: COLOURS[index % COLOURS.length] };
      });
    }
    legend();
    describe();
    draw();
  };

  const show = (index) => {
    state.view = views[index];
    const wanted = state.column ? state.column.name : null;
    const { columns } = state.view;
    texts = state.view.x.map((_, row) => columns.map((column) => shown(column, row)).join("\n").toLowerCase());
    options(byId("colour"), columns.map((column) => column.name));
    const again = Math.max(0, columns.findIndex((column) => column.name === wanted));
    byId("colour").value = String(again);
    whole();
    colourBy(again);
  };

  const pick = (event, reach) => {
    const bounds = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
    let best = -1;
    let least = reach * reach;
    for (let row = 0; row < state.view.x.length; row += 1) {
      if (!lit(row)) continue;
      const [px, py] = place(row);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
    if (best === state.at) return;
    state.at = best;
    card.hidden = best < 0;
    if (best >= 0) {
      const parts = [pairs(state.view.columns.map((column) => [column.name, shown(column, best)]))];
      const { sheet } = state.view;
      if (sheet) {
        const picture = element("div", { className: "thumbnail" });
        picture.style.backgroundImage = `url(${sheet.image})`;
        picture.style.backgroundSize = `${80 * sheet.across}px`;
        picture.style.backgroundPosition = `${-80 * (best % sheet.across)}px ${-80 * Math.floor(best / sheet.across)}px`;
        parts.unshift(picture);
      }
      const [px, py] = place(best);
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
    state.at = -1;
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
      state.at = -1;
      card.hidden = true;
      draw();
    }
    fingers.set(event.pointerId, event);
  });
  ["pointerup", "pointercancel"].forEach((kind) =>
    canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId)));
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "mouse" || state.at < 0) return;
    state.at = -1;
    card.hidden = true;
    draw();
  });
  canvas.addEventListener("wheel", (event) => {
    // A plain wheel scrolls the page; a pinch on a trackpad arrives as a wheel with ctrl.
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 200), event.clientX, event.clientY);
  }, { passive: false });

  options(byId("view"), views.map((view) => view.name));
  byId("view").addEventListener("change", (event) => show(Number(event.target.value)));
  byId("colour").addEventListener("change", (event) => colourBy(Number(event.target.value)));
  byId("find").addEventListener("input", (event) => {
    state.query = event.target.value.trim().toLowerCase();
    state.at = -1;
    card.hidden = true;
    describe();
    draw();
  });
  byId("closer").addEventListener("click", () => zoom(1.5));
  byId("farther").addEventListener("click", () => zoom(1 / 1.5));
  byId("whole").addEventListener("click", () => { whole(); draw(); });
  new ResizeObserver(() => { if (canvas.clientWidth !== width || canvas.clientHeight !== height) draw(); }).observe(canvas);
  show(0);
};

if (byId("views")) startMap();
