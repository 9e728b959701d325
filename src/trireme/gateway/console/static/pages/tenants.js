/** Tenants: who has keys, budgets or requests, and what they used today. */

import { api } from '../lib/api.js';
import { dollars, number, tokens } from '../lib/format.js';
import { el, field, pager, table } from '../lib/ui.js';

export const title = 'Tenants';

// While somebody types.
const PAUSE_MS = 250;

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page
 */
export function show(main, { signal }) {
  const search = el('input', { type: 'search', autocomplete: 'off', spellcheck: 'false' });
  const list = pager({
    label: 'Pages of tenants',
    load: async (after) => (await api('/v1/tenants', { query: { q: search.value.trim(), after }, signal })).data,
    render: tenantTable,
  });
  let timer;
  search.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(list.restart, PAUSE_MS);
  });
  signal.addEventListener('abort', () => clearTimeout(timer));
  const submit = (event) => {
    event.preventDefault();
    clearTimeout(timer);
    list.restart();
  };
  main.append(
    el('form', { role: 'search', on: { submit } }, field('Search', search, { hint: 'A part of the name.' })),
    list.node,
  );
  return list.restart();
}

function tenantTable(rows) {
  const link = (page, row, text) =>
    el('a', { href: `#/${page}?tenant=${encodeURIComponent(row.tenant)}`, 'aria-label': `${text} ${page} of ${row.tenant}`, text });
  return table({
    caption: 'Tenants and what they used since midnight UTC',
    cards: true,
    empty: 'No tenant has this in its name.',
    rows,
    columns: [
      { name: 'tenant', label: 'Tenant', cell: ({ tenant, home }) => el('span', { class: 'wrap', dir: 'auto', text: home ? `${tenant} (region ${home} knows its use)` : tenant }) },
      { name: 'keys', label: 'Keys', align: 'right', cell: (row) => link('keys', row, number(row.keys)) },
      { name: 'budgets', label: 'Budgets', align: 'right', cell: (row) => link('budgets', row, number(row.budgets)) },
      { name: 'requests_today', label: 'Requests today', align: 'right', cell: (row) => number(row.requests_today) },
      { name: 'tokens_today', label: 'Tokens today', align: 'right', cell: (row) => tokens(row.tokens_today) },
      { name: 'dollars_today', label: 'Cost today', align: 'right', cell: (row) => dollars(row.dollars_today) },
    ],
  });
}
