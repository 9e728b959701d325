/** Models: what is served, in which precision and size, what its build measured, and whether it is ready. */

import { api } from '../lib/api.js';
import { bytes, isUnknown, number } from '../lib/format.js';
import { pause } from '../lib/pause.js';
import { badge, el, errorBox, heading, loading, renew, replace, table } from '../lib/ui.js';

export const title = 'Models';

const AGAIN_MS = 5000;

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page
 */
export async function show(main, { signal }) {
  const wrong = el('div', {});
  const place = el('div', { class: 'page' }, loading());
  main.append(wrong, place);
  let before = '';
  let fault = '';
  while (!signal.aborted) {
    try {
      // Nobody looks: nothing is asked.
      if (document.hidden && before) continue;
      const { data } = await api('/v1/model_cards', { signal });
      const now = JSON.stringify(data.data);
      // Readiness changes now and then, the rest hardly: what is read is not taken away.
      if (now !== before) renew(place, ...render(data.data));
      before = now;
      if (fault) replace(wrong);
      fault = '';
    } catch (error) {
      if (signal.aborted) return;
      place.querySelector('.loading')?.remove();
      const passes = [0, 429, 503].includes(error.status);
      // Asked again below without a button. Said once, and what was known stays.
      if (fault !== error.message) replace(wrong, errorBox(error, { again: null }), before && passes ? el('p', { class: 'muted', text: 'What stands below is from before.' }) : null);
      fault = error.message;
      if (!passes) return;
    } finally {
      await pause(AGAIN_MS, signal);
    }
  }
}

function render(cards) {
  const rows = [...cards].sort((one, other) => one.name.localeCompare(other.name));
  const ready = rows.filter((card) => card.is_ready).length;
  const unknown = rows.filter((card) => isUnknown(card.is_ready)).length;
  const detailed = rows.filter(hasDetails);
  return [
    el('p', { class: 'muted', text: `${ready} of ${rows.length} ready${unknown ? `, ${unknown} unknown` : ''}. Looked at every ${AGAIN_MS / 1000} s.` }),
    table({ caption: 'Models that this key may use', columns: COLUMNS, rows, empty: 'No model is served.', cards: true }),
    detailed.length > 0 && el('section', {}, heading('Builds, gates and quality'), el('div', { class: 'boxes' }, detailed.map(details))),
  ];
}

const COLUMNS = [
  { name: 'name', label: 'Model', cell: (card) => (hasDetails(card) ? el('a', { href: '#', on: { click: jump(card.name) }, text: card.name }) : card.name) },
  { name: 'ability', label: 'Does', cell: (card) => doesOf(card) },
  { name: 'is_ready', label: 'State', cell: stateOf },
  { name: 'precision', label: 'Precision', cell: (card) => card.precision ?? '–' },
  { name: 'engine', label: 'Engine', cell: (card) => card.engine ?? '–' },
  { name: 'bytes', label: 'Size', align: 'right', cell: (card) => (isUnknown(card.bytes) ? '–' : bytes(card.bytes)) },
  { name: 'dimensions', label: 'Dimensions', align: 'right', cell: (card) => (isVector(card) ? number(card.dimensions, 0) : '–') },
  { name: 'max_length', label: 'Longest input', align: 'right', cell: (card) => (card.max_length ? `${number(card.max_length, 0)} tokens` : '–') },
];

function doesOf({ ability, kind }) {
  return words([ability, kind !== ability && kind].filter(Boolean).join(', ')) || '–';
}

/** Of other models the manifest's dimensions are labels or a vocabulary. */
function isVector({ ability, dimensions }) {
  return ability === 'embed' && Boolean(dimensions);
}

function stateOf({ is_ready: isReady, is_far: isFar }) {
  return el(
    'span',
    { class: 'row' },
    isUnknown(isReady) ? badge('plain', 'unknown') : badge(isReady ? 'good' : 'bad', isReady ? 'ready' : 'not ready'),
    isFar && badge('warning', 'from another region'),
  );
}

function hasDetails({ source, figures, quality, gate, calls }) {
  return Boolean(source) || Boolean(calls?.length) || [figures, quality, gate].some((one) => Object.keys(one ?? {}).length > 0);
}

function details(card) {
  const { name, source, revision, version, figures, quality, gate, calls } = card;
  return el(
    'section',
    { class: 'panel stack', id: `model-${name}`, tabindex: '-1' },
    el('h3', { class: 'name', text: name }),
    pairs([
      ...(source ? [['Source', source], ['Revision', revision ?? 'unknown']] : []),
      ...(version ? [['Version served', el('span', { class: 'mono', title: version, text: version.slice(0, 12) })]] : []),
      ...(calls?.length ? [['Calls', calls.join(', ')]] : []),
    ]),
    figureList('Gate', gate),
    figureList('Figures of the build', figures),
    figureList('Quality', quality),
  );
}

function figureList(label, figures) {
  const rows = flatten(figures ?? {});
  if (!rows.length) return null;
  return el('div', {}, el('h4', { text: label }), pairs(rows.map(([term, value]) => [term, textOf(value)])));
}

function pairs(rows) {
  return el('dl', { class: 'pairs' }, rows.map(([term, value]) => el('div', {}, el('dt', { text: term }), el('dd', { class: 'wrap' }, value))));
}

/**
 * A tree of figures as rows: "a, b" and its value.
 * @param {any} tree
 * @param {string} [before]
 * @returns {[string, any][]}
 */
export function flatten(tree, before = '') {
  return Object.entries(tree).flatMap(([name, value]) => {
    const term = before ? `${before}, ${words(name)}` : words(name);
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) return flatten(value, term);
    return [[term, value]];
  });
}

function words(name) {
  return name.replaceAll('_', ' ');
}

function textOf(value) {
  if (value === true || value === false) return value ? 'yes' : 'no';
  if (typeof value === 'number') return number(value, Math.abs(value) < 10 ? 4 : 1);
  if (Array.isArray(value)) return value.join(', ') || 'none';
  return value ?? 'unknown';
}

/** To a model's box; the address stays, since it names the page. */
function jump(name) {
  return (event) => {
    event.preventDefault();
    const box = document.getElementById(`model-${name}`);
    box?.scrollIntoView({ block: 'start' });
    box?.focus({ preventScroll: true });
  };
}
