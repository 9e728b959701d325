/** Gauges of the live page: a name, a figure of now, a line of the last hour. */

import { dollars, duration, isUnknown, number, percent, seconds, tokens } from '../lib/format.js';
import { plot } from '../lib/plot.js';
import { el } from '../lib/ui.js';

const HOUR = 3600;

/**
 * label; figure(now, hour): text and a smaller text beside it; value(at, interval): what the line shows of a slot, where
 * at(name) is a series' number or null; own(now): the same where no series has it, kept while the page is open;
 * show: a value of the line as text; isOfMachines: for admins alone.
 */
const GAUGES = [
  {
    label: 'Requests',
    figure: (now) => [number(now.requests_per_second, 1), 'per second'],
    value: (at, interval) => share(at('requests'), interval),
    show: (value) => `${number(value, 1)}/s`,
  },
  {
    label: 'Tokens',
    figure: (now) => [tokens(rounded(now.tokens_per_second)), 'per second, read and written'],
    value: (at, interval) => share(sum(at('input_tokens'), at('output_tokens')), interval),
    show: (value) => `${tokens(rounded(value))}/s`,
  },
  {
    label: 'Running',
    figure: (now) => [number(now.running, 0), 'requests'],
    value: (at) => at('running'),
    own: (now) => now.running,
    show: (value) => number(value, 0),
    isOfMachines: true,
  },
  {
    label: 'Backlog',
    figure: (now) => [seconds(greatest(now.backlog)), 'of work in the longest line'],
    value: (at) => at('backlog_seconds'),
    own: (now) => greatest(now.backlog),
    show: seconds,
    isOfMachines: true,
  },
  {
    label: 'First content',
    figure: (now) => timed(now.first_ms_p95, `p95, p50 ${duration(now.first_ms_p50)}`),
    value: (at) => at('first_ms_p95'),
    show: duration,
  },
  {
    label: 'Whole answer',
    figure: (now) => timed(now.total_ms_p95, `p95, p50 ${duration(now.total_ms_p50)}`),
    value: (at) => at('total_ms_p95'),
    show: duration,
  },
  {
    label: 'Wait in line',
    figure: (now) => timed(now.wait_ms_p95, 'p95', isUnknown(now.waiting) ? '' : `, ${number(now.waiting, 0)} waiting`),
    value: (at) => at('wait_ms_p95'),
    show: duration,
  },
  {
    label: 'Spend today',
    figure: (now, hour) => [dollars(now.spend?.dollars), `${tokens(now.spend?.tokens)} tokens${savedOf(hour)}`],
    value: (at, interval) => scaled(at('dollars'), HOUR / interval),
    show: (value) => `${dollars(value)}/h`,
  },
  tier('Exact cache', 'exact', 'hits_exact'),
  tier('Semantic cache', 'semantic', 'hits_semantic'),
  {
    label: 'Prefix cache',
    figure: (now, hour) => [tokens(hour('hits_prefix_tokens')), 'tokens not read again, last hour'],
    value: (at, interval) => share(at('hits_prefix_tokens'), interval),
    show: (value) => `${tokens(rounded(value))}/s`,
  },
  {
    label: 'Refused',
    figure: (now, hour) => [number(hour('refused'), 0), 'requests, last hour'],
    value: (at, interval) => scaled(at('refused'), 60 / interval),
    show: (value) => `${number(value, 0)}/min`,
  },
  {
    label: 'Failed',
    figure: (now, hour) => [number(hour('failed'), 0), 'requests, last hour'],
    value: (at, interval) => scaled(at('failed'), 60 / interval),
    show: (value) => `${number(value, 0)}/min`,
  },
  ready('Replicas', 'replicas'),
  ready('Regions', 'regions'),
];

/**
 * @param {any} me what GET /v1/me says
 * @returns {{node: HTMLElement, history: (data: any) => void, point: (data: any) => void, now: (data: any) => void}}
 */
export function gaugesFor(me) {
  const rows = GAUGES.filter((gauge) => me.is_admin || !gauge.isOfMachines).map(made);
  const hour = new Map();
  let latest = null;
  let interval = 10;

  function sumOf(name) {
    const known = (hour.get(name) ?? []).filter((value) => value !== null);
    return known.length ? known.reduce((one, other) => one + other, 0) : null;
  }

  return {
    node: el('section', { 'aria-label': 'Gauges' }, el('ul', { class: 'gauges' }, rows.map(({ node }) => node))),
    history(data) {
      interval = data.interval;
      hour.clear();
      Object.entries(data.series).forEach(([name, values]) => hour.set(name, values));
      for (const row of rows) {
        const values = data.at.map((_, at) => row.gauge.value((name) => data.series[name]?.[at] ?? null, interval));
        // What no series has is kept by this page: a new stream does not take it away.
        if (!row.gauge.own || values.some((value) => value !== null)) row.line.set(data.at, values);
      }
    },
    point({ at, series }) {
      for (const [name, value] of Object.entries(series)) hour.set(name, [...(hour.get(name) ?? []), value].slice(-360));
      for (const { gauge, line } of rows) {
        line.add(at, gauge.value((name) => series[name] ?? null, interval) ?? (latest && gauge.own?.(latest)) ?? null);
      }
    },
    now(data) {
      const isFirst = latest === null;
      latest = data;
      for (const { gauge, figure, small, line } of rows) {
        if (isFirst && gauge.own && line.isEmpty()) line.add(data.at, gauge.own(data) ?? null);
        const [text, more] = gauge.figure(data, sumOf);
        set(figure, text);
        figure.parentElement.classList.toggle('none', text === 'unknown' || text === 'none');
        set(small, more);
      }
    },
  };
}

function made(gauge) {
  const line = plot({ label: `${gauge.label}, last hour`, interval: 10, show: gauge.show });
  line.set([], []);
  const figure = el('span');
  const small = el('p', { class: 'beside' });
  return {
    gauge,
    line,
    figure,
    small,
    node: el('li', { class: 'gauge' }, el('h2', { text: gauge.label }), el('p', { class: 'figure' }, figure), small, line.node),
  };
}

/** Change a text only where it is another: nothing is painted anew for the same. */
function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A time of the last minute; of nothing there is none. */
function timed(ms, which, more = '') {
  return isUnknown(ms) ? ['none', `in the last minute${more}`] : [duration(ms), `${which}${more}`];
}

function tier(label, name, series) {
  return {
    label,
    figure: (now) => {
      // A tier that is not named was not asked.
      const { hits, lookups } = now.cache ? (now.cache[name] ?? { hits: 0, lookups: 0 }) : {};
      if (isUnknown(lookups)) return ['unknown', 'of the last hour'];
      return [lookups ? percent(hits / lookups) : 'none', lookups ? `${tokens(hits)} of ${tokens(lookups)}, last hour` : 'looked up in the last hour'];
    },
    value: (at) => (at('cache_lookups') && at(series) !== null ? at(series) / at('cache_lookups') : null),
    show: percent,
  };
}

function ready(label, name) {
  const count = (now, state = true) => now[name]?.filter((one) => (one.is_ready ?? null) === state).length ?? null;
  return {
    label,
    figure: (now) => [number(count(now), 0), now[name] ? `of ${now[name].length} ready${count(now, null) ? `, ${count(now, null)} unknown` : ''}` : ''],
    value: () => null,
    own: (now) => count(now),
    show: (value) => number(value, 0),
    isOfMachines: true,
  };
}

function sum(...values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((one, other) => one + other, 0) : null;
}

/** What caches saved stands beside what was spent, and is no part of it. */
function savedOf(hour) {
  const saved = hour('saved_dollars');
  return saved ? `; caches saved ${dollars(saved)} in the last hour` : '';
}

function share(value, interval) {
  return value === null ? null : value / interval;
}

function scaled(value, factor) {
  return value === null ? null : value * factor;
}

function rounded(value) {
  return isUnknown(value) ? null : Math.round(value);
}

function greatest(backlog) {
  if (!backlog) return null;
  const lines = Object.values(backlog);
  const known = lines.filter((value) => !isUnknown(value));
  // No line is no work; lines of which none is known are not.
  return lines.length && !known.length ? null : Math.max(0, ...known);
}
