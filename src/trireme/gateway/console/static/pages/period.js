/** A time from since to until, chosen by name or by days, and kept in the address, so that a link shows the same. */

import { el, field, select } from '../lib/ui.js';

const DAY = 86_400_000;
const NAMED = [
  ['month', 'This month'],
  ['today', 'Today'],
  ['week', 'Last 7 days'],
  ['days30', 'Last 30 days'],
  ['own', 'From … to …'],
];

/** @param {string} route behind the page's name, such as ?by=tenant @returns {Object<string, string>} */
export function readQuery(route) {
  return Object.fromEntries(new URLSearchParams(route.split('?')[1] ?? ''));
}

/** Put the query into the address without showing the page anew. @param {string} page @param {Object<string, string>} query */
export function writeQuery(page, query) {
  const pairs = Object.entries(query).filter(([, value]) => value);
  history.replaceState(null, '', `#/${page}${pairs.length ? `?${new URLSearchParams(pairs)}` : ''}`);
}

/**
 * since and until as the API takes them; days are those of UTC, as bills count them.
 * @param {Object<string, string>} query period, since, until
 * @param {number} [now] ms
 * @returns {{since: string, until: string}} "" where the API's own default holds
 */
export function timesOf({ period = 'month', since = '', until = '' }, now = Date.now()) {
  const back = (days) => new Date(now - days * DAY).toISOString().slice(0, 10);
  if (period === 'today') return { since: back(0), until: '' };
  if (period === 'week') return { since: back(6), until: '' };
  if (period === 'days30') return { since: back(29), until: '' };
  if (period === 'own') return { since, until };
  return { since: '', until: '' };
}

/**
 * Controls of a period.
 * @param {Object<string, string>} query what is chosen: changed in place
 * @param {() => void} onChange
 * @returns {HTMLElement[]}
 */
export function periodControls(query, onChange) {
  const days = ['since', 'until'].map((name) => {
    const input = el('input', { type: 'date', value: (query[name] ?? '').slice(0, 10), on: { change: () => take(name, input.value) } });
    return field(name === 'since' ? 'From' : 'Until, not included', input);
  });
  const chosen = select(NAMED, { value: query.period || 'month', on: { change: () => take('period', chosen.value) } });

  function take(name, value) {
    query[name] = value;
    if (name === 'period' && value !== 'own') query.since = query.until = '';
    show();
    onChange();
  }

  function show() {
    days.forEach((one) => (one.hidden = chosen.value !== 'own'));
  }

  show();
  return [field('Period (UTC)', chosen), ...days];
}
