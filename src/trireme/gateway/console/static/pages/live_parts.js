/** What stands below the gauges: lines by model, caches by tier, budgets, errors by class, what serves. */

import { dollars, isUnknown, number, percent, seconds, tokens } from '../lib/format.js';
import { badge, el, heading, replace, svg } from '../lib/ui.js';

/**
 * @param {any} me what GET /v1/me says
 * @returns {{node: HTMLElement, hello: (data: any) => void, now: (data: any) => void}}
 */
export function partsFor(me) {
  const note = el('p', { class: 'hint' });
  const budgets = bars('Budgets, and what of them is spent', 'No budget holds here.');
  const errors = bars('Errors of the last hour by class', 'None.');
  const tiers = bars('Hits of the last hour by tier', 'Nothing was looked up.');
  const backlog = bars('Seconds of work in line by model', 'No line: nothing waits.');
  const serving = [listed('models', 'Models', 'No model is served.')];
  const columns = [
    part('Spend against budgets', budgets.node),
    part('Errors by class, last hour', errors.node),
    part('Caches by tier, last hour', tiers.node),
  ];
  if (me.is_admin) {
    columns.push(part('Backlog by model', backlog.node));
    serving.push(listed('replicas', 'Replicas', 'No replica is known.'), listed('regions', 'Regions', 'No region is known.'));
  }
  columns.push(...serving.map(({ label, node }) => part(label, node)));
  return {
    node: el('div', { class: 'stack' }, el('div', { class: 'columns' }, columns), note),
    hello({ gateway }) {
      note.textContent =
        `Throughput, waits, caches and errors are those of ${gateway ? `gateway ${gateway}` : 'the gateway that answers this page'}; spend is that of all gateways.` +
        (me.is_admin ? '' : ' Backlog, replicas and regions are shown to keys with the endpoint admin.');
    },
    now(data) {
      budgets.set(budgetRows(data.spend));
      errors.set(errorRows(data.errors));
      tiers.set(tierRows(data.cache));
      backlog.set(backlogRows(data.backlog));
      serving.forEach((one) => one.set(data[one.name]));
    },
  };
}

function part(label, node) {
  return el('section', { class: 'stack' }, heading(label), node);
}

function budgetRows(spend) {
  return (spend?.budgets ?? null)?.map((one) => {
    const byTokens = one.unit ? one.unit === 'tokens' : isUnknown(one.limit_dollars);
    const [used, limit] = byTokens ? [one.tokens, one.limit_tokens] : [one.dollars, one.limit_dollars];
    const show = byTokens ? (value) => `${tokens(value)} tokens` : dollars;
    const share = isUnknown(used) || !Number(limit) ? null : Number(used) / Number(limit);
    const ahead = isUnknown(one.at_end) ? '' : `, ${show(one.at_end)} by its end`;
    return {
      name: [one.tenant, one.user, `per ${one.window}`].filter(Boolean).join(' / '),
      share,
      text: `${show(used)} of ${show(limit)}`,
      more: share === null ? '' : `${percent(share)}${ahead}`,
      isBad: share !== null && (share >= 0.9 || Number(one.at_end ?? 0) > Number(limit)),
    };
  });
}

function errorRows(errors) {
  if (!errors) return null;
  const counts = Object.entries(errors).filter(([, count]) => count > 0);
  const most = Math.max(...counts.map(([, count]) => count), 1);
  return counts
    .sort(([, one], [, other]) => other - one)
    .map(([name, count]) => ({ name, share: count / most, text: number(count, 0) }));
}

function tierRows(cache) {
  if (!cache) return null;
  return Object.entries(cache).map(([name, { hits, lookups }]) => ({
    name,
    share: lookups ? hits / lookups : null,
    text: lookups ? percent(hits / lookups) : isUnknown(hits) ? 'unknown' : number(hits, 0),
    more: lookups ? `${number(hits, 0)} of ${number(lookups, 0)}` : '',
  }));
}

function backlogRows(backlog) {
  if (!backlog) return null;
  const rows = Object.entries(backlog);
  const most = Math.max(...rows.map(([, value]) => value ?? 0), 1);
  return rows.map(([name, value]) => ({ name, share: isUnknown(value) ? null : value / most, text: seconds(value) }));
}

/**
 * Rows of a name, a bar and a figure, changed in place, so that nothing jumps under who reads it.
 * @param {string} label @param {string} empty @param {number} [most] rows that are shown
 * @returns {{node: HTMLElement, set: (rows: {name: string, share: number|null, text: string, more?: string, isBad?: boolean}[]|null) => void}}
 */
export function bars(label, empty, most = 12) {
  const list = el('ul', { class: 'bars', 'aria-label': label });
  const said = el('p', { class: 'muted' });
  const known = new Map();
  return {
    node: el('div', {}, list, said),
    set(all) {
      const rows = all?.slice(0, most);
      const more = (all?.length ?? 0) - most;
      const text = !rows ? 'Unknown.' : !rows.length ? empty : more > 0 ? `And ${number(more, 0)} more.` : '';
      if (said.textContent !== text) said.textContent = text;
      said.hidden = !text;
      list.hidden = !rows?.length;
      const names = new Set((rows ?? []).map(({ name }) => name));
      for (const [name, row] of known) {
        if (names.has(name)) continue;
        row.node.remove();
        known.delete(name);
      }
      (rows ?? []).forEach((one, at) => {
        const row = known.get(one.name) ?? newBar(one.name);
        known.set(one.name, row);
        row.set(one);
        if (list.children[at] !== row.node) list.insertBefore(row.node, list.children[at] ?? null);
      });
    },
  };
}

function newBar(name) {
  const filled = svg('rect', { height: '6', rx: '1' });
  const figure = el('span', { class: 'right' });
  const more = el('span', { class: 'muted more' });
  const drawing = svg(
    'svg',
    { viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' },
    svg('rect', { class: 'ground', width: '100', height: '6', rx: '1' }),
    filled,
  );
  const node = el('li', {}, el('span', { class: 'wrap', text: name }), figure, drawing, more);
  return {
    node,
    set({ share, text, more: beside = '', isBad = false }) {
      filled.setAttribute('width', String(Math.round(Math.min(1, Math.max(0, share ?? 0)) * 1000) / 10));
      drawing.toggleAttribute('hidden', share === null);
      node.classList.toggle('bad', isBad);
      if (figure.textContent !== text) figure.textContent = text;
      if (more.textContent !== beside) more.textContent = beside;
      more.hidden = !beside;
    },
  };
}

/** What serves, each with its state as a word; anew only where something changed. */
function listed(name, label, empty) {
  const node = el('div');
  let before = '';
  return {
    name,
    label,
    node,
    set(rows) {
      const now = JSON.stringify(rows ?? null);
      if (now === before) return;
      before = now;
      if (!rows) replace(node, el('p', { class: 'muted', text: 'Unknown.' }));
      else if (!rows.length) replace(node, el('p', { class: 'muted', text: empty }));
      else replace(node, el('ul', { class: 'serving' }, rows.map(servingRow)));
    },
  };
}

function readiness(isReady) {
  if (isUnknown(isReady)) return badge('plain', 'unknown');
  return badge(isReady ? 'good' : 'bad', isReady ? 'ready' : 'not ready');
}

function servingRow(one) {
  return el(
    'li',
    {},
    el('span', { class: 'wrap' }, one.name, one.ability && el('span', { class: 'muted', text: ` ${one.ability}` })),
    one.is_own && badge('plain', 'this one'),
    readiness(one.is_ready),
    one.is_far && badge('warning', 'from another region'),
  );
}
