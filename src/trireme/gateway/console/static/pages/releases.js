/** Releases: what each one cost, how fast and how right it was, side by side; when it was deployed, and notes. */

import { api } from '../lib/api.js';
import { dollars, duration, number, percent, time, tokens } from '../lib/format.js';
import { badge, code, el, errorBox, field, heading, loading, replace, select, table } from '../lib/ui.js';
import { periodControls, readQuery, timesOf, writeQuery } from './period.js';

export const title = 'Releases';

/** better: which way is better, -1 for less, 1 for more; 0 for neither. */
const FIGURES = [
  row('Requests', (cost) => cost.requests, whole),
  row('Succeeded', (cost) => ratio(cost.succeeded, cost.requests), percent, 1),
  row('Failed', (cost) => ratio(cost.failed, cost.requests), percent, -1),
  row('First content, p50', (cost) => cost.first_content_ms?.p50, duration, -1),
  row('First content, p95', (cost) => cost.first_content_ms?.p95, duration, -1),
  row('Whole answer, p50', (cost) => cost.answer_ms?.p50, duration, -1),
  row('Whole answer, p95', (cost) => cost.answer_ms?.p95, duration, -1),
  row('Tokens read', (cost) => cost.input_tokens, tokens),
  row('Tokens written', (cost) => cost.output_tokens, tokens),
  row('Tokens written a second of attempts', (cost) => ratio(cost.output_tokens, cost.attempt_seconds), (value) => number(value, 1), 1),
  row('Machine hours', (cost) => ratio(cost.machine_seconds, 3600), (value) => number(value, 2)),
  row('Usage', (cost) => cost.usage_dollars, dollars),
  row('Idle', (cost) => cost.idle_dollars, dollars),
  row('Allocation', (cost) => cost.allocation_dollars, dollars),
  row('Each success, by usage', (cost) => cost.dollars_per_success.usage, dollars, -1),
  row('Each success, by allocation', (cost) => cost.dollars_per_success.allocation, dollars, -1),
  row('A million tokens, by usage', (cost) => cost.dollars_per_million_tokens, dollars, -1),
];
const SAVED = [row('Saved by caches', (cost) => cost.saved_dollars, dollars)];

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page
 */
export async function show(main, { route, signal }) {
  const query = readQuery(route);
  const place = el('div', { class: 'page' });
  let asked = new AbortController();
  if (!query.period) query.period = 'days30';

  async function load() {
    writeQuery('releases', query);
    asked.abort();
    asked = new AbortController();
    const mine = AbortSignal.any([signal, asked.signal]);
    if (!place.childNodes.length) place.append(loading());
    try {
      const { data } = await api('/v1/releases', { query: timesOf(query), signal: mine });
      replace(place, render(data, query));
    } catch (error) {
      if (!mine.aborted) replace(place, errorBox(error, { again: load, comesBack: true }));
    }
  }

  main.append(el('div', { class: 'row end' }, periodControls(query, load)), place);
  await load();
}

function render({ data }, query) {
  if (!data.length) return el('p', { class: 'empty', text: 'No release was noted yet: a gateway notes its own at its start.' });
  const compared = el('div', { class: 'stack' });
  const names = data.map(({ name }) => name);
  // The last one that has cost, beside the one before it.
  const used = data.filter(({ cost }) => cost).map(({ name }) => name);
  const now = names.includes(query.b) ? query.b : (used[0] ?? names[0]);
  const before = names.includes(query.a) ? query.a : (used.find((name) => name !== now) ?? names.find((name) => name !== now) ?? now);
  const labels = data.map(({ name }) => [name, name || 'before releases were noted']);
  const left = select(labels, { value: before, on: { change: compare } });
  const right = select(labels, { value: now, on: { change: compare } });

  function compare() {
    [query.a, query.b] = [left.value, right.value];
    writeQuery('releases', query);
    replace(compared, comparison(...[left.value, right.value].map((name) => data.find((one) => one.name === name))));
  }

  replace(compared, comparison(...[before, now].map((name) => data.find((one) => one.name === name))));
  return [
    el('section', {}, heading('Side by side'), el('div', { class: 'row end' }, field('Release', left), field('beside', right)), compared),
    el('section', {}, heading('Deploys and notes'), history(data)),
  ];
}

function comparison(left, right) {
  const isOne = left.name === right.name;
  const cost = (rows) => rows.map(({ label, of, show, better }) => compareRow(label, valueOf(left, of), valueOf(right, of), { show, better }));
  const quality = [...new Set([...Object.keys(left.quality), ...Object.keys(right.quality)])].sort();
  const figures = quality.map((name) => compareRow(name, left.quality[name], right.quality[name], { show: (value) => number(value, 4), better: 0 }));
  const digests = [...new Set([...Object.keys(left.models), ...Object.keys(right.models)])].sort();
  const changed = digests.filter((name) => left.models[name] !== right.models[name]);
  const columns = columnsFor(left, right, isOne);
  return [
    table({ caption: `Cost, errors and times of ${nameOf(left)} and ${nameOf(right)}`, columns, rows: cost(FIGURES), kind: 'compare' }),
    el('h3', { text: 'Savings, never subtracted from the cost' }),
    table({ caption: 'Savings of caches', columns, rows: cost(SAVED), kind: 'compare' }),
    el('h3', { text: 'Quality: figures of the models' }),
    table({ caption: 'Figures of the models', columns, rows: figures, kind: 'compare', empty: 'No figures of models were noted.' }),
    isOne ? null : el('p', { class: 'muted', text: changed.length ? `Models with another digest: ${changed.join(', ')}.` : 'All models are the same files.' }),
  ];
}

function columnsFor(left, right, isOne) {
  return [
    { name: 'label', label: 'Figure' },
    { name: 'left', label: nameOf(left), align: 'right' },
    !isOne && { name: 'right', label: nameOf(right), align: 'right' },
    !isOne && { name: 'change', label: 'Change', align: 'right' },
  ].filter(Boolean);
}

function compareRow(label, left, right, { show, better }) {
  const text = (value) => (value === null || value === undefined ? '–' : show(value));
  return { label, left: text(left), right: text(right), change: changeOf(left, right, better) };
}

/**
 * How the right differs from the left, in words where one way is better.
 * @param {any} left @param {any} right @param {number} better @returns {Node|string}
 */
export function changeOf(left, right, better) {
  const [from, to] = [Number(left), Number(right)];
  if ([left, right].some((value) => value === null || value === undefined) || Number.isNaN(from + to)) return '–';
  if (from === to) return 'same';
  if (!from) return 'new';
  const change = (to - from) / Math.abs(from);
  const text = `${change > 0 ? '+' : '−'}${percent(Math.abs(change))}`;
  if (!better) return text;
  const isBetter = Math.sign(change) === better;
  return el('span', { class: 'row nowrap' }, text, badge(isBetter ? 'good' : 'bad', isBetter ? 'better' : 'worse'));
}

function history(data) {
  const entries = data.flatMap(({ name, version, revision, deployed, notes }) => [
    ...deployed.map((at) => ({ at, name, what: 'deployed', text: [version, revision.slice(0, 12)].filter(Boolean).join(', ') })),
    ...notes.map(({ at, text }) => ({ at, name, what: 'note', text })),
  ]);
  entries.sort((one, other) => other.at.localeCompare(one.at));
  return [
    table({
      caption: 'Deploys and notes, the newest first',
      columns: [
        { name: 'at', label: 'At', cell: ({ at }) => time(at) },
        { name: 'name', label: 'Release', cell: ({ name }) => el('span', { class: 'wrap', text: name }) },
        { name: 'what', label: 'What', cell: ({ what }) => badge('plain', what) },
        { name: 'text', label: 'Text', cell: ({ text }) => el('span', { class: 'wrap', text }) },
      ],
      rows: entries.slice(0, 200),
      empty: 'No deploy was noted yet.',
      cards: true,
    }),
    code('trireme release note "what changed"', { label: 'Add a note' }),
  ];
}

function nameOf({ name }) {
  return name || 'before releases were noted';
}

function valueOf({ cost }, of) {
  return cost ? of(cost) : null;
}

function row(label, of, show, better = 0) {
  return { label, of, show, better };
}

function whole(value) {
  return number(value, 0);
}

function ratio(part, all) {
  return part === null || part === undefined || !all ? null : part / all;
}
