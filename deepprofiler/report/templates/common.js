"use strict";
// Shared by all scripts: colours, elements whose content is set as text only, and the card.
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#4D4D4D", "#F0E442"];
const SHAPES = 4;
const FAINT = "#d5dbe1";
const VIRIDIS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const byId = (id) => document.getElementById(id);

const element = (tag, properties, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

// Colour of the viridis scale at a share from 0 to 1.
const viridis = (share) => {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const start = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const mix = [1, 3, 5].map((at) => {
    const [low, high] = [start, start + 1].map((index) => parseInt(VIRIDIS[index].slice(at, at + 2), 16));
    return Math.round(low + (high - low) * (place - start));
  });
  return `rgb(${mix.join(",")})`;
};

const valueText = (value) => (value === null ? "missing" : String(value));
// Text of a column of a map: a number, or the name of a level.
const columnText = (column, row) =>
  column.numbers ? valueText(column.numbers[row]) : column.levels[column.codes[row]] || "(blank)";

// Path of a symbol: circle, triangle, square or diamond.
const outline = (context, shape, x, y, r) => {
  context.beginPath();
  if (shape === 1) {
    context.moveTo(x, y - 1.25 * r);
    context.lineTo(x + 1.15 * r, y + 0.85 * r);
    context.lineTo(x - 1.15 * r, y + 0.85 * r);
    context.closePath();
  } else if (shape === 2) {
    context.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r);
  } else if (shape === 3) {
    context.moveTo(x, y - 1.3 * r);
    context.lineTo(x + 1.3 * r, y);
    context.lineTo(x, y + 1.3 * r);
    context.lineTo(x - 1.3 * r, y);
    context.closePath();
  } else {
    context.arc(x, y, r, 0, 2 * Math.PI);
  }
};

// A symbol for a legend.
const swatch = (symbol) => {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", "-6 -6 12 12");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", [
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0", "M0 -5.2L5 4L-5 4Z",
    "M-4.2 -4.2H4.2V4.2H-4.2Z", "M0 -5.6L5.6 0L0 5.6L-5.6 0Z",
  ][symbol.shape]);
  path.setAttribute("fill", symbol.colour);
  drawing.append(path);
  return drawing;
};

// Shows the card beside a point (x, y) of an area of a width and a height.
const placeCard = (card, x, y, width, height, ...children) => {
  card.hidden = false;
  card.replaceChildren(...children);
  card.style.left = `${Math.max(4, x + 16 + card.offsetWidth > width ? x - 16 - card.offsetWidth : x + 16)}px`;
  card.style.top = `${Math.max(4, Math.min(y - 20, height - card.offsetHeight - 4))}px`;
};

// Names with their values, for a card.
const pairs = (entries) => {
  const list = element("dl", {});
  entries.forEach(([name, value]) =>
    list.append(element("dt", { textContent: name }), element("dd", { textContent: value })));
  return list;
};

// Gives a canvas the resolution of the screen. Returns its width and height in CSS pixels.
const sharpen = (canvas, context) => {
  const density = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [Math.round(width * density), Math.round(height * density)];
  context.setTransform(density, 0, 0, density, 0, 0);
  return [width, height];
};

const options = (select, names) =>
  select.replaceChildren(...names.map((name, at) => element("option", { value: String(at), textContent: name })));

// Lowest and highest number; missing ones are null.
const rangeOf = (numbers) => {
  const present = numbers.filter((value) => value !== null);
  return present.length ? [present.reduce((a, b) => Math.min(a, b)), present.reduce((a, b) => Math.max(a, b))] : [0, 1];
};

const ramp = (colours) => {
  const strip = element("span", { className: "ramp" });
  strip.style.background = `linear-gradient(90deg, ${colours.join(",")})`;
  return strip;
};
