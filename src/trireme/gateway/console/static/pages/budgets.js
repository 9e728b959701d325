/** Budgets: what is spent of each, whether it lasts; an admin sets and removes them. */

import { api } from '../lib/api.js';
import { burndown, outlook } from '../lib/burndown.js';
import { dollars, isUnknown, number } from '../lib/format.js';
import { button, confirm, el, errorBox, field, heading, notice, pager, replace, select, table } from '../lib/ui.js';

export const title = 'Budgets';

const WINDOWS = ['minute', 'day', 'month'];

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page
 */
export function show(main, { me, route, signal }) {
  const asked = new URLSearchParams(route.replace(/^\?/, ''));
  const tenant = el('input', { value: asked.get('tenant') ?? '', autocomplete: 'off', spellcheck: 'false' });
  const said = el('div', { class: 'stack' });
  const form = me.is_admin ? budgetForm({ tenant: asked.get('tenant') ?? '', onSet: (made) => told(made), said, signal }) : null;
  let wanted = '';
  // Pages are of the tenant that was asked for, not of what is being typed.
  const restart = () => {
    wanted = tenant.value.trim();
    return list.restart();
  };
  const list = pager({
    label: 'Pages of budgets',
    load: (after) => load(me, wanted, after, signal),
    render: (rows) => budgetTable(rows, me.is_admin ? { onChange: form.fill, onRemove: remove } : null),
  });

  function told(text) {
    replace(said, notice('good', text));
    return list.reload();
  }

  async function remove(row) {
    const text = `${whose(row)} may then spend without this limit of a ${row.window}.`;
    if (!(await confirm({ title: `Remove the budget of ${whose(row)}?`, text, action: 'Remove' }))) return;
    try {
      await api('/v1/budgets', { method: 'DELETE', query: placeOf(row), signal });
      await told(`The budget of ${whose(row)} for a ${row.window} is removed.`);
    } catch (error) {
      if (!signal.aborted) replace(said, errorBox(error, { again: null }));
    }
  }

  const submit = (event) => {
    event.preventDefault();
    restart();
  };
  const refresh = el('button', { type: 'submit', text: me.is_admin ? 'Find' : 'Refresh' });
  main.append(
    said,
    el(
      'form',
      { class: 'row end', on: { submit } },
      me.is_admin && field('Tenant', tenant),
      refresh,
      me.is_admin && el('p', { class: 'hint', text: 'Empty: all budgets as they are set. A name: those in force for it.' }),
    ),
    list.node,
  );
  if (form) main.append(form.node);
  return restart();
}

/** A page of budgets. Those of one tenant come whole. */
async function load(me, tenant, after, signal) {
  const query = me.is_admin ? { tenant, ...(tenant ? {} : { after, limit: 50 }) } : {};
  const { data } = await api('/v1/budgets', { query, signal });
  return { data: data.data, has_more: data.has_more ?? false, last_id: data.last_id ?? null };
}

function placeOf({ tenant, user, window }) {
  return { tenant, user, window };
}

/** Whose budget it is, in words. */
function whose({ tenant, user }) {
  if (!tenant) return 'the whole gateway';
  const named = tenant === '*' ? 'each tenant' : tenant;
  if (!user) return named;
  return user === '*' ? `each user of ${named}` : `${named} / ${user}`;
}

function limitOf({ tokens, dollars: most }) {
  const parts = [isUnknown(tokens) ? null : `${number(tokens)} tokens`, isUnknown(most) ? null : dollars(most)];
  return parts.filter(Boolean).join(', ');
}

function spentOf(budget) {
  const { spent } = budget;
  // Of * each has its own, as the bar says.
  if (!spent && budget.tenant !== '*' && budget.user !== '*') return 'unknown';
  return spent ? `${number(spent.tokens)} tokens, ${dollars(spent.dollars)}` : '';
}

function budgetTable(rows, actions) {
  const columns = [
    { name: 'tenant', label: 'Of', cell: (row) => el('span', { class: 'wrap', dir: 'auto', text: whose(row) }) },
    { name: 'window', label: 'In a', cell: (row) => row.window },
    { name: 'limit', label: 'At most', align: 'right', cell: limitOf },
    { name: 'spent', label: 'Spent', align: 'right', cell: spentOf },
    { name: 'used', label: 'Used', cell: (row) => burndown(row) },
    { name: 'forecast', label: 'Forecast', cell: (row) => (row.forecast ? outlook(row) : '') },
  ];
  if (actions) columns.push({ name: 'actions', label: 'Change', cell: (row) => actionsOf(row, actions) });
  const empty = 'No budget is set: nothing but rates limits what is spent.';
  return table({ caption: 'Budgets and what is spent of them', cards: true, empty, rows, columns });
}

function actionsOf(row, { onChange, onRemove }) {
  const name = `the budget of ${whose(row)} for a ${row.window}`;
  return el(
    'div',
    { class: 'row' },
    button('Change', () => onChange(row), { kind: 'quiet', name: `Change ${name}` }),
    button('Remove', () => onRemove(row), { kind: 'quiet danger', name: `Remove ${name}` }),
  );
}

/** The form that sets a budget in place of the one of its tenant, user and window. */
function budgetForm({ tenant, onSet, said, signal }) {
  const text = (value = '') => el('input', { value, autocomplete: 'off', spellcheck: 'false' });
  const inputs = {
    tenant: text(tenant),
    user: text(),
    window: select(WINDOWS, { value: 'day' }),
    tokens: el('input', { type: 'number', min: '0', step: '1' }),
    dollars: el('input', { inputmode: 'decimal', autocomplete: 'off', pattern: '[0-9]+(\\.[0-9]{1,9})?', title: 'an amount with a point, such as 2.50' }),
  };
  const submit = async (event) => {
    event.preventDefault();
    const body = read(inputs);
    try {
      await api('/v1/budgets', { method: 'PUT', body, signal });
      await onSet(`The budget of ${whose(body)} for a ${body.window} is in force within 2 s.`);
    } catch (error) {
      if (!signal.aborted) replace(said, errorBox(error, { again: null }));
    }
  };
  const node = el(
    'section',
    { class: 'panel', 'aria-labelledby': 'set-heading' },
    heading('Set a budget', 'set-heading'),
    el(
      'form',
      { class: 'stack', 'aria-labelledby': 'set-heading', on: { submit } },
      el(
        'div',
        { class: 'columns' },
        field('Tenant', inputs.tenant, { hint: 'Empty: the whole gateway. *: each tenant that has none of its own.' }),
        field('User', inputs.user, { hint: 'Empty: the tenant. *: each of its users that has none of its own.' }),
        field('Window', inputs.window),
        field('Tokens', inputs.tokens, { hint: 'Empty: no limit of tokens.' }),
        field('Dollars', inputs.dollars, { hint: 'Such as 2.50. Empty: no limit of dollars.' }),
      ),
      el('div', { class: 'row' }, el('button', { type: 'submit', class: 'primary', text: 'Set the budget' })),
    ),
  );

  function fill(row) {
    for (const [name, input] of Object.entries(inputs)) input.value = row[name] ?? '';
    node.scrollIntoView({ block: 'nearest' });
    inputs.tokens.focus();
  }

  return { node, fill };
}

/** The body of PUT /v1/budgets. */
function read(inputs) {
  const body = { window: inputs.window.value };
  for (const name of ['tenant', 'user', 'dollars']) {
    const value = inputs[name].value.trim();
    if (value) body[name] = value;
  }
  if (inputs.tokens.value !== '') body.tokens = Number(inputs.tokens.value);
  return body;
}
