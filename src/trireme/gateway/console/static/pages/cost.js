/** Cost: what is paid for and what was used, in a period, by model, tenant, tier, step, release or day; savings apart. */

import { api } from '../lib/api.js';
import { dollars, duration, number, percent, tokens } from '../lib/format.js';
import { button, el, errorBox, field, heading, loading, notice, replace, select, svg, table } from '../lib/ui.js';
import { periodControls, readQuery, timesOf, writeQuery } from './period.js';

export const title = 'Cost';

const BY = [
  ['model', 'Model'],
  ['tenant', 'Tenant'],
  ['tier', 'Cache tier'],
  ['step', 'Step of a cascade'],
  ['release', 'Release'],
  ['day', 'Day'],
];
const MOST = 50;

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page
 */
export async function show(main, { me, route, signal }) {
  const query = readQuery(route);
  const place = el('div', { class: 'page' });
  let asked = new AbortController();

  async function load() {
    writeQuery('cost', query);
    asked.abort();
    asked = new AbortController();
    const mine = AbortSignal.any([signal, asked.signal]);
    if (!place.childNodes.length) place.append(loading());
    place.setAttribute('aria-busy', 'true');
    try {
      const { data } = await api('/v1/cost', { query: { by: query.by || 'model', tenant: query.tenant, ...timesOf(query) }, signal: mine });
      replace(place, render(data));
    } catch (error) {
      if (!mine.aborted) replace(place, errorBox(error, { again: load, comesBack: true }));
    } finally {
      if (!mine.aborted) place.removeAttribute('aria-busy');
    }
  }

  const by = select(BY, { value: query.by || 'model', on: { change: () => take('by', by.value) } });
  const tenant = el('input', { type: 'search', value: query.tenant ?? '', autocomplete: 'off', spellcheck: 'false', on: { change: () => take('tenant', tenant.value.trim()) } });

  function take(name, value) {
    query[name] = value;
    load();
  }

  main.append(
    el('div', { class: 'row end' }, field('By', by), periodControls(query, load), me.is_admin && field('Tenant (empty: all)', tenant)),
    place,
  );
  await load();
}

function render(cost) {
  const { total, machines } = cost;
  return [
    el('p', { class: 'muted', text: `${utc(cost.since)} to ${utc(cost.until)} UTC${cost.tenant ? `, tenant ${cost.tenant}` : ''}` }),
    strip(cost),
    checkOf(cost),
    el('section', {}, heading('Allocation and usage'), lines(cost), el('p', { class: 'hint', text: hintOf(total) })),
    el(
      'div',
      { class: 'columns' },
      el('section', { class: 'stack' }, heading('What caches saved'), savings(cost)),
      machines?.length ? el('section', { class: 'stack' }, heading('Own machines'), machineTable(machines)) : null,
    ),
  ];
}

/** A time of the period as it was asked for: in UTC, without seconds that are none. */
function utc(text) {
  return text.replace('T', ' ').replace(/(:00)?(\.\d+)?Z$/, '');
}

function strip({ bill_dollars: bill, total }) {
  const each = total.dollars_per_success;
  const rows = [
    ['Bill', dollars(bill), 'machines by the hour, providers by the token'],
    ['Usage', dollars(total.usage_dollars), 'what attempts were charged'],
    total.idle_dollars === null ? null : ['Idle', dollars(total.idle_dollars), 'own machines that nobody used'],
    ['Succeeded', number(total.succeeded, 0), `of ${number(total.requests, 0)} requests, ${number(total.failed, 0)} failed`],
    ['Each success', dollars(each.allocation ?? each.usage), each.allocation === null ? 'by usage' : `by allocation; ${dollars(each.usage)} by usage`],
    ['Tokens', tokens(total.input_tokens + total.output_tokens), `${tokens(total.input_tokens)} read, ${tokens(total.output_tokens)} written`],
  ];
  return el(
    'dl',
    { class: 'strip' },
    rows.filter(Boolean).map(([term, value, more]) => el('div', {}, el('dt', { text: term }), el('dd', { text: value }), el('dd', { class: 'beside', text: more }))),
  );
}

/** What must hold, and says so where it does not. */
function checkOf({ unexplained_dollars: rest, total, machines }) {
  if (Number(rest) !== 0) return notice('error', `${dollars(rest)} of the bill is explained by no line: something was counted twice, or not at all.`);
  if (Number(total.idle_dollars ?? 0) < 0) return notice('warning', 'More was charged than the machines cost: rates or prices of gateway.toml are wrong.');
  const bare = machines?.filter((one) => !one.is_priced).map((one) => one.kind);
  if (bare?.length) return notice('warning', `No price of an hour is set for ${bare.join(', ')}: they count as free (docs/cost.md).`);
  return null;
}

function lines({ by, data, total }) {
  const hasMachines = data.some((line) => line.allocation_dollars !== null);
  const columns = [
    { name: 'name', label: BY.find(([name]) => name === by)?.[1] ?? by, cell: (line) => el('span', { class: 'wrap', text: line.name || 'none' }) },
    { name: 'share', label: 'Share of usage', cell: (line) => shareOf(line, total) },
    amount('usage_dollars', 'Usage'),
    hasMachines && amount('idle_dollars', 'Idle'),
    hasMachines && amount('allocation_dollars', 'Allocation'),
    { name: 'requests', label: 'Requests', align: 'right', cell: (line) => number(line.requests, 0) },
    { name: 'succeeded', label: 'Succeeded', align: 'right', cell: (line) => number(line.succeeded, 0) },
    { name: 'failed', label: 'Failed', align: 'right', cell: (line) => number(line.failed, 0) },
    { name: 'each', label: hasMachines ? 'Each success, usage' : 'Each success', align: 'right', cell: (line) => known(line.dollars_per_success.usage, dollars) },
    hasMachines && { name: 'each2', label: 'allocation', align: 'right', cell: (line) => known(line.dollars_per_success.allocation, dollars) },
    { name: 'tokens', label: 'Tokens', align: 'right', cell: (line) => tokens(line.input_tokens + line.output_tokens) },
    { name: 'ms', label: 'Answer p50 / p95', align: 'right', cell: (line) => (line.answer_ms ? `${duration(line.answer_ms.p50)} / ${duration(line.answer_ms.p95)}` : '–') },
  ].filter(Boolean);
  return shortened(data, (rows, isWhole) => {
    const box = table({ caption: 'Allocation and usage', columns, rows: isWhole ? [...rows, Object.assign(total, { name: 'Total' })] : rows, cards: true, empty: 'Nothing was asked in this time.' });
    if (isWhole) box.querySelector('tbody')?.lastElementChild?.classList.add('total');
    return box;
  });
}

/** The first rows, and a button for the others: a month may have had 1,000 tenants. */
function shortened(rows, render) {
  const place = el('div', { class: 'stack' });
  if (rows.length <= MOST) return replace(place, rows.length ? render(rows, true) : render([], false));
  const more = button(`Show all ${number(rows.length, 0)}`, () => replace(place, render(rows, true)));
  return replace(place, render(rows.slice(0, MOST), false), el('div', {}, more));
}

function amount(name, label) {
  return { name, label, align: 'right', cell: (line) => known(line[name], dollars) };
}

function known(value, show) {
  return value === null || value === undefined ? '–' : show(value);
}

function shareOf(line, total) {
  const whole = Number(total.usage_dollars);
  if (line === total || !whole) return '–';
  const share = Number(line.usage_dollars) / whole;
  const wide = String(Math.round(share * 1000) / 10);
  return el('span', { class: 'row nowrap' }, svg('svg', { class: 'share', viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('rect', { class: 'ground', width: '100', height: '6' }), svg('rect', { width: wide, height: '6' })), percent(share));
}

function hintOf(total) {
  return total.allocation_dollars === null
    ? 'Usage is what attempts were charged. Of one tenant nothing is said of machines: an idle one is nobody’s.'
    : 'Usage is what attempts were charged; allocation is usage and idle time of own machines, so what is paid for. Idle time is shown by day, by release and in total.';
}

function machineTable(machines) {
  return table({
    caption: 'Own machines',
    columns: [
      { name: 'kind', label: 'Kind' },
      { name: 'hours', label: 'Hours up', align: 'right', cell: (one) => number(one.hours, 2) },
      { name: 'dollars', label: 'Cost', align: 'right', cell: (one) => (one.is_priced ? dollars(one.dollars) : 'not set') },
    ],
    rows: machines,
  });
}

function savings({ by, data, total }) {
  const rows = data.filter((line) => Number(line.saved_dollars) > 0).sort((one, other) => Number(other.saved_dollars) - Number(one.saved_dollars));
  if (!Number(total.saved_dollars)) return el('p', { class: 'muted', text: 'Nothing in this time.' });
  return [
    el('p', { text: `${dollars(total.saved_dollars)} in all: what the models’ answers would have cost. It is never subtracted from the cost above.` }),
    rows.length
      ? table({
          caption: 'What caches saved',
          columns: [{ name: 'name', label: BY.find(([name]) => name === by)?.[1] ?? by, cell: (line) => line.name || 'none' }, amount('saved_dollars', 'Saved')],
          rows: rows.slice(0, MOST),
        })
      : null,
  ];
}
