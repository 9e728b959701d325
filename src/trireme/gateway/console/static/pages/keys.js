/** Keys: listed without their secrets, made, and taken out of force. */

import { api } from '../lib/api.js';
import { number, time } from '../lib/format.js';
import { badge, button, code, confirm, el, errorBox, field, notice, pager, replace, select, table } from '../lib/ui.js';

export const title = 'Keys';

const ENDPOINTS = [
  'chat', 'completions', 'messages', 'responses', 'embeddings', 'rerank', 'classify', 'models', 'search', 'documents', 'metrics',
  'usage', 'admin',
];
/** @returns {string[]} endpoints that a key can be limited to; a test compares them with those of the gateway */
export function endpoints() {
  return ENDPOINTS;
}

const STATES = [['active', 'in force'], ['revoked', 'revoked'], ['', 'all']];
const PRIORITIES = ['normal', 'high', 'batch'];

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page
 */
export function show(main, { me, route, signal }) {
  const asked = new URLSearchParams(route.replace(/^\?/, ''));
  const tenant = el('input', { value: asked.get('tenant') ?? '', autocomplete: 'off', spellcheck: 'false' });
  const state = select(STATES, { value: 'active', on: { change: () => restart() } });
  const said = el('div', { class: 'stack' });
  // Apart from what is said of other keys, which must not take it away.
  const secret = el('div', { class: 'stack' });
  let wanted = tenant.value;
  const restart = () => {
    wanted = tenant.value.trim();
    return list.restart();
  };
  const list = pager({
    label: 'Pages of keys',
    load: async (after) => {
      const query = { tenant: wanted, state: state.value, after };
      return (await api('/v1/keys', { query, signal })).data;
    },
    render: (rows) => keyTable(rows, (row) => revoke(row, { list, said, signal })),
  });
  const submit = (event) => {
    event.preventDefault();
    restart();
  };
  const find = el('button', { type: 'submit', text: 'Find' });
  main.append(
    said,
    secret,
    newKey(me, { restart, said, secret, signal }),
    el('form', { class: 'row end', role: 'search', on: { submit } }, field('Tenant', tenant), field('State', state), find),
    list.node,
  );
  return restart();
}

function keyTable(rows, onRevoke) {
  return table({
    caption: 'Keys, without their secrets',
    cards: true,
    empty: 'No key is of this tenant and state.',
    rows,
    columns: [
      { name: 'id', label: 'Key', cell: (row) => el('span', { class: 'mono', text: row.id }) },
      { name: 'tenant', label: 'Tenant', cell: (row) => el('span', { class: 'wrap', dir: 'auto', text: row.user ? `${row.tenant} / ${row.user}` : row.tenant }) },
      { name: 'may', label: 'May use', cell: mayUse },
      { name: 'requests_per_minute', label: 'Requests a minute', align: 'right', cell: rate },
      { name: 'priority', label: 'Priority' },
      { name: 'created_at', label: 'Made', cell: (row) => time(row.created_at) },
      { name: 'state', label: 'State', cell: (row) => stateOf(row, onRevoke) },
    ],
  });
}

/** What a key is limited to, in words. */
function mayUse({ endpoints, models, collections }) {
  const limits = [
    endpoints.length ? endpoints.join(', ') : 'all endpoints but admin',
    models.length && `models ${models.join(', ')}`,
    collections.length && `collections ${collections.join(', ')}`,
  ];
  return el('span', { class: 'wrap', text: limits.filter(Boolean).join('; ') });
}

function rate({ requests_per_minute: limit }) {
  return limit ? number(limit) : 'no limit';
}

function stateOf(row, onRevoke) {
  if (row.state === 'revoked') return badge('plain', 'revoked');
  return button('Revoke', () => onRevoke(row), { kind: 'quiet danger', name: `Revoke ${row.id}` });
}

async function revoke(row, { list, said, signal }) {
  const isSure = await confirm({
    title: `Revoke ${row.id}?`,
    text: `Requests with this key of tenant ${row.tenant} are refused within 2 s, everywhere. It cannot be put in force again.`,
    action: 'Revoke',
  });
  if (!isSure) return;
  try {
    await api(`/v1/keys/${encodeURIComponent(row.id)}`, { method: 'DELETE', signal });
    replace(said, notice('good', `${row.id} is revoked.`));
    await list.reload();
  } catch (error) {
    if (!signal.aborted) replace(said, errorBox(error, { again: null }));
  }
}

/** The form of a new key, folded until somebody wants one. */
function newKey(me, { restart, said, secret, signal }) {
  const inputs = inputsOf(me);
  const make = el('button', { type: 'submit', class: 'primary', text: 'Make the key' });
  let isMaking = false;
  const submit = async (event) => {
    event.preventDefault();
    if (isMaking) return;
    // Not disabled: that would take the focus away.
    isMaking = true;
    try {
      const { data } = await api('/v1/keys', { method: 'POST', body: read(inputs), signal });
      folded.open = false;
      replace(said);
      showSecret(secret, data);
      await restart();
    } catch (error) {
      if (!signal.aborted) replace(said, errorBox(error, { again: null }));
    } finally {
      isMaking = false;
    }
  };
  const folded = el(
    'details',
    { class: 'panel' },
    el('summary', { text: 'New key' }),
    el(
      'form',
      { class: 'stack', 'aria-label': 'New key', on: { submit } },
      el(
        'div',
        { class: 'columns' },
        field('Tenant', inputs.tenant),
        field('User', inputs.user, { hint: 'Empty: none.' }),
        field('Models', inputs.models, { hint: 'Names with commas between them; empty: all.' }),
        field('Collections', inputs.collections, { hint: 'Names with commas between them; empty: all.' }),
        field('Requests a minute', inputs.rate, { hint: '0: no limit.' }),
        field('Priority', inputs.priority),
      ),
      el(
        'fieldset',
        {},
        el('legend', { text: 'Endpoints' }),
        el('p', { class: 'hint', text: 'None: all but admin. admin may see and change what is of all tenants.' }),
        el('div', { class: 'row' }, inputs.endpoints.map((box) => el('label', { class: 'check' }, box, box.value))),
      ),
      el('div', { class: 'row' }, make),
    ),
  );
  return folded;
}

function inputsOf(me) {
  const text = (props) => el('input', { autocomplete: 'off', spellcheck: 'false', ...props });
  return {
    tenant: text({ value: me.tenant, required: true }),
    user: text(),
    models: text(),
    collections: text(),
    rate: el('input', { type: 'number', min: '0', step: '1', value: '0', required: true }),
    priority: select(PRIORITIES, { value: 'normal' }),
    endpoints: ENDPOINTS.map((name) => el('input', { type: 'checkbox', value: name })),
  };
}

/** The body of POST /v1/keys. */
function read(inputs) {
  const names = ({ value }) => value.split(',').map((name) => name.trim()).filter(Boolean);
  return {
    tenant: inputs.tenant.value.trim(),
    user: inputs.user.value.trim(),
    models: names(inputs.models),
    collections: names(inputs.collections),
    endpoints: inputs.endpoints.filter((box) => box.checked).map((box) => box.value),
    requests_per_minute: Number(inputs.rate.value),
    priority: inputs.priority.value,
  };
}

/** The secret, this once: it goes with the box, and with the page. */
function showSecret(place, made) {
  const title = el('h2', { tabindex: '-1', text: `${made.id} of tenant ${made.tenant}` });
  const box = el(
    'section',
    { class: 'panel stack', 'aria-label': 'The new key' },
    title,
    el('p', { text: 'Copy it now: it is shown this once, and kept nowhere. It is in force within 2 s.' }),
    code(made.secret, { label: 'the key' }),
    el('div', { class: 'row' }, button('I have it', () => replace(place))),
  );
  replace(place, box);
  title.focus();
}
