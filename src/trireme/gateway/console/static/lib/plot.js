/** A small line over time, in SVG: as wide as its box, with its scale and latest value in text beside it. */

import { number, time as timeText } from './format.js';
import { el, svg } from './ui.js';

const WIDTH = 240;
const HEIGHT = 48;

/**
 * A plot of the last `most` intervals.
 * @param {{label: string, unit?: string, interval: number, most?: number, show?: (value: number) => string}} what
 *   interval: seconds between values. most: values that it holds. show: a value as text; without it number and unit
 * @returns {{node: HTMLElement, set: (times: number[], values: (number|null)[]) => void,
 *   add: (time: number, value: number|null) => void, isEmpty: () => boolean}} times: Unix seconds; null is a gap
 */
export function plot({ label, unit = '', interval, most = 360, show }) {
  const text = show ?? ((value) => `${number(value)}${unit ? ` ${unit}` : ''}`);
  const line = svg('path', { class: 'line' });
  const area = svg('path', { class: 'area' });
  const cursor = svg('path', { class: 'cursor' });
  const drawing = svg(
    'svg',
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { class: 'base', d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
    area,
    line,
    cursor,
  );
  const high = el('span', { class: 'high' });
  const low = el('span', { class: 'low' });
  const said = el('span', { class: 'unseen' });
  const node = el('div', { class: 'plot' }, drawing, high, low, said);
  let points = [];
  let isPointed = false;

  function draw() {
    const { known, least, greatest } = range(points);
    const shape = paths(points, { interval, most, least, greatest });
    line.setAttribute('d', shape.line);
    area.setAttribute('d', shape.area);
    said.textContent = spoken(label, points, known, { least, greatest, text });
    if (!isPointed) scale(known, least, greatest);
  }

  function scale(known, least, greatest) {
    high.textContent = known ? `max ${text(greatest)}` : 'no data';
    low.textContent = known && greatest !== least ? `min ${text(least)}` : '';
    cursor.setAttribute('d', '');
  }

  function point(event) {
    const box = drawing.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const at = points.length - 1 - Math.round((1 - share) * (most - 1));
    if (!points[at]) return;
    isPointed = true;
    const [when, value] = points[at];
    const x = (share * WIDTH).toFixed(1);
    cursor.setAttribute('d', `M${x} 0V${HEIGHT}`);
    high.textContent = value === null ? 'no data' : text(value);
    low.textContent = timeText(when).slice(11);
  }

  drawing.addEventListener('pointermove', point);
  drawing.addEventListener('pointerleave', () => {
    isPointed = false;
    draw();
  });
  return {
    node,
    isEmpty: () => points.length === 0,
    set(times, values) {
      points = times.map((time, at) => [time, values[at] ?? null]).slice(-most);
      draw();
    },
    add(time, value) {
      points.push([time, value ?? null]);
      points = points.slice(-most);
      draw();
    },
  };
}

/** @param {[number, number|null][]} points @returns {{known: number, least: number, greatest: number}} known: how many are no gaps */
export function range(points) {
  const values = points.map(([, value]) => value).filter((value) => value !== null);
  return { known: values.length, least: Math.min(...values, Infinity), greatest: Math.max(...values, -Infinity) };
}

/**
 * The line and the area below it, as SVG paths. The scale begins at 0, or at the least value below it.
 * @param {[number, number|null][]} points
 * @param {{interval: number, most: number, least: number, greatest: number}} scale
 * @returns {{line: string, area: string}}
 */
export function paths(points, { interval, most, least, greatest }) {
  const floor = Math.min(0, least);
  const height = greatest - floor || 1;
  const end = points.length ? points.at(-1)[0] : 0;
  const x = (time) => round(WIDTH - ((end - time) / interval) * (WIDTH / (most - 1)));
  const y = (value) => round(HEIGHT - 2 - ((value - floor) / height) * (HEIGHT - 6));
  let line = '';
  let area = '';
  for (const run of runs(points, interval)) {
    const [first, last] = [x(run[0][0]), x(run.at(-1)[0])];
    // A value between two gaps is a short dash.
    const steps = run.map(([time, value]) => `${x(time)} ${y(value)}`).join('L');
    line += run.length > 1 ? `M${steps}` : `M${steps}h-1`;
    area += `M${first} ${HEIGHT}L${steps}L${last} ${HEIGHT}Z`;
  }
  return { line, area };
}

/** Runs of values without a gap between them: neither null nor a time that is missing. */
function runs(points, interval) {
  const found = [];
  let before = null;
  for (const [time, value] of points) {
    if (value !== null && before !== null && time - before <= interval * 1.5) found.at(-1).push([time, value]);
    else if (value !== null) found.push([[time, value]]);
    before = value === null ? null : time;
  }
  return found;
}

function spoken(label, points, known, { least, greatest, text }) {
  if (!known) return `${label}: no data`;
  const [, value] = points.at(-1);
  return `${label}: latest ${value === null ? 'unknown' : text(value)}, least ${text(least)}, greatest ${text(greatest)}`;
}

function round(value) {
  return Math.round(value * 10) / 10;
}
