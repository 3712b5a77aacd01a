
// Plate maps: one canvas per plate, one quantity at a time, on one scale for all plates.
const startPlates = () => {
  const data = JSON.parse(byId("well-data").textContent);
  const stage = byId("plate-stage");
  const card = byId("plate-card");
  const state = { column: data.quantities[0], range: [0, 1] };
  const FLAG = "#D55E00";

  // Margins in pixels for the names of rows and columns, and the distance between wells.
  const geometry = (plate, canvas) => {
    const left = plate.letters.length ? 18 : 4;
    const top = plate.letters.length ? 16 : 4;
    const step = (canvas.clientWidth - left - 4) / plate.columns;
    return { left, top, step };
  };

  const circle = (context, x, y, radius) => {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
  };

  const draw = ({ plate, canvas }) => {
    const { left, top, step } = geometry(plate, canvas);
    canvas.style.height = `${top + step * plate.rows + 4}px`;
    const context = canvas.getContext("2d");
    const [width, height] = sharpen(canvas, context);
    context.clearRect(0, 0, width, height);
    const centre = (row, column) => [left + (column + 0.5) * step, top + (row + 0.5) * step];
    context.fillStyle = "#5f6c79";
    context.font = `${Math.max(7, Math.min(10.5, step * 0.8))}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const every = step < 11 ? 2 : 1;
    plate.letters.forEach((letter, row) => {
      if (row % every === 0) context.fillText(letter, 8, centre(row, 0)[1]);
    });
    if (plate.letters.length) {
      for (let column = 0; column < plate.columns; column += every) {
        context.fillText(String(column + 1), centre(0, column)[0], 8);
      }
    }
    context.strokeStyle = "#dde3e8";
    context.lineWidth = 1;
    for (let row = 0; plate.letters.length && row < plate.rows; row += 1) {
      for (let column = 0; column < plate.columns; column += 1) {
        circle(context, ...centre(row, column), step * 0.38);
        context.stroke();
      }
    }
    const [low, high] = state.range;
    plate.wells.forEach((well) => {
      const value = state.column.numbers[well];
      const [x, y] = centre(data.row[well], data.column[well]);
      circle(context, x, y, step * 0.41);
      context.fillStyle = value === null ? "#fff" : viridis((value - low) / (high - low || 1));
      context.fill();
      if (value === null) {
        context.strokeStyle = "#8a96a3";
        context.lineWidth = 1.2;
        context.beginPath();
        const arm = step * 0.22;
        context.moveTo(x - arm, y - arm);
        context.lineTo(x + arm, y + arm);
        context.moveTo(x - arm, y + arm);
        context.lineTo(x + arm, y - arm);
        context.stroke();
      }
      if (data.flags[well]) {
        circle(context, x, y, step * 0.44);
        context.strokeStyle = FLAG;
        context.lineWidth = Math.max(2, step * 0.1);
        context.stroke();
      }
    });
  };

  const panels = data.plates.map((plate) => {
    const canvas = element("canvas", {});
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Map of plate ${plate.name}`);
    const title = element("h3", { textContent: plate.name, title: plate.name });
    const panel = { plate, canvas };
    const at = new Map(plate.wells.map((well) => [`${data.row[well]} ${data.column[well]}`, well]));
    canvas.addEventListener("pointermove", (event) => {
      const bounds = canvas.getBoundingClientRect();
      const { left, top, step } = geometry(plate, canvas);
      const column = Math.floor((event.clientX - bounds.left - left) / step);
      const row = Math.floor((event.clientY - bounds.top - top) / step);
      const well = at.get(`${row} ${column}`);
      card.hidden = well === undefined;
      if (card.hidden) return;
      const outer = stage.getBoundingClientRect();
      const entries = data.quantities.map((quantity) => [quantity.name, valueText(quantity.numbers[well])]);
      const flag = data.flags[well] ? [["flagged", data.flags[well]]] : [];
      const middle = [bounds.left - outer.left + left + (column + 0.5) * step, bounds.top - outer.top + top + (row + 0.5) * step];
      placeCard(card, ...middle, outer.width, outer.height, pairs([["well", data.names[well]], ["plate", plate.name], ...entries, ...flag]));
    });
    canvas.addEventListener("pointerleave", () => { card.hidden = true; });
    stage.append(element("div", { className: "plate" }, title, canvas));
    return panel;
  });

  const choose = (index) => {
    state.column = data.quantities[index];
    state.range = rangeOf(state.column.numbers);
    // The first quantity is a count, whose scale begins at 0.
    if (index === 0) state.range[0] = 0;
    panels.forEach(draw);
    const [low, high] = state.range.map((value) => element("span", { textContent: valueText(value) }));
    const mark = swatch({ shape: 0, colour: "#fff" });
    mark.firstChild.setAttribute("stroke", FLAG);
    mark.firstChild.setAttribute("stroke-width", "1.8");
    const flagged = data.flags.filter((flag) => flag).length;
    byId("plate-legend").replaceChildren(element("div", { className: "scale" },
      element("b", { textContent: state.column.name }), low, ramp(VIRIDIS), high,
      mark, element("span", { textContent: `flagged (${flagged})` }),
      element("span", { textContent: "× not measured" })));
  };

  options(byId("quantity"), data.quantities.map((quantity) => quantity.name));
  byId("quantity").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("plate-caption").textContent = data.caption;
  let width = 0;
  // Drawing changes the height, so it waits until all sizes are observed.
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (stage.clientWidth === width) return;
    width = stage.clientWidth;
    panels.forEach(draw);
  })).observe(stage);
  choose(0);
};

if (byId("well-data")) startPlates();
