/** Elements, made by calls. Text is always text: nothing here parses markup. */

import { ApiError } from './api.js';

const SVG = 'http://www.w3.org/2000/svg';
let made = 0;

/** @param {string} [word] @returns {string} an id that no other element has */
export function newId(word = 'id') {
  made += 1;
  return `${word}-${made}`;
}

/**
 * An element.
 * @param {string} tag
 * @param {Object<string, any>} [props] text; on: {click: f}; dataset: {name: value}; hidden, disabled ... (true, false);
 *   value, checked: properties; every other name is an attribute; null, undefined and false leave it out
 * @param {...(Node|string|number|null|undefined|false|any[])} children
 * @returns {HTMLElement}
 */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** As `el`, of SVG. @param {string} tag @param {Object<string, any>} [props] @param {...any} children @returns {SVGElement} */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  const late = {};
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'text') node.textContent = String(value);
    else if (name === 'on') Object.entries(value).forEach(([type, listen]) => node.addEventListener(type, listen));
    else if (name === 'dataset') Object.assign(node.dataset, value);
    else if (name === 'value' || name === 'checked') late[name] = value;
    else if (name === 'style' || name.startsWith('on')) throw new TypeError(`${name}: the policy of content forbids it`);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...flat(children));
  // A select knows its options only now.
  Object.assign(node, late);
  // So that what a person typed can be told from what stood there.
  if ('value' in late && node instanceof HTMLInputElement) node.setAttribute('value', String(late.value));
  return node;
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** Give `node` other children. @param {Element} node @param {...any} children @returns {Element} node */
export function replace(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

/**
 * As `replace`, for what is shown anew: who is on a control in it stays on the one of the same name, or, where that is gone,
 * on `node` itself.
 * @param {HTMLElement} node @param {...any} children @returns {HTMLElement} node
 */
export function renew(node, ...children) {
  const before = document.activeElement;
  const isInside = before !== node && node.contains(before);
  replace(node, ...children);
  if (!isInside) return node;
  if (!node.hasAttribute('tabindex')) node.tabIndex = -1;
  const same = [...node.querySelectorAll(before.tagName)].find((one) => nameOf(one) === nameOf(before));
  (same ?? node).focus({ preventScroll: true });
  return node;
}

function nameOf(node) {
  return node.getAttribute('aria-label') ?? node.getAttribute('href') ?? node.textContent;
}

/** A heading of a part of the page. @param {string} text @param {string} [id] @returns {HTMLElement} */
export function heading(text, id) {
  return el('h2', { text, id });
}

/**
 * @param {string} label
 * @param {(event: Event) => void} onClick
 * @param {{kind?: 'danger'|'primary'|'quiet', name?: string}} [options] name: for screen readers, where the label alone says too little
 * @returns {HTMLButtonElement}
 */
export function button(label, onClick, { kind = '', name } = {}) {
  return el('button', { type: 'button', class: kind, text: label, 'aria-label': name, on: { click: onClick } });
}

/**
 * A control under its label.
 * @param {string} label @param {HTMLElement} control @param {{hint?: string}} [options]
 * @returns {HTMLElement}
 */
export function field(label, control, { hint } = {}) {
  control.id ||= newId('field');
  const id = hint ? newId('hint') : undefined;
  if (id) control.setAttribute('aria-describedby', id);
  return el(
    'div',
    { class: 'field' },
    el('label', { for: control.id, text: label }),
    control,
    hint && el('p', { class: 'hint', id, text: hint }),
  );
}

/**
 * @param {(string|[string, string])[]} options a value, or value and label
 * @param {{value?: string, on?: Object<string, Function>}} [props]
 * @returns {HTMLSelectElement}
 */
export function select(options, { value, on } = {}) {
  const rows = options.map((one) => (Array.isArray(one) ? one : [one, one]));
  const props = { on: on ?? {} };
  if (value !== undefined) props.value = value;
  return el('select', props, rows.map(([key, label]) => el('option', { value: key, text: label })));
}

/**
 * A table in a box that scrolls by itself; on a phone each row is a card where `cards` says so.
 * @param {{caption: string, columns: {name: string, label: string, align?: 'right'|'left', cell?: (row: any) => any}[], rows: any[],
 *   empty?: string, cards?: boolean, kind?: string, isCaptionShown?: boolean}} what cell: without one `row[name]`. The first column
 *   names the row. kind: `compare` (columns as wide in every such table), `narrow` (no wider than it must be).
 * @returns {HTMLElement}
 */
export function table({ caption, columns, rows, empty = 'Nothing is here yet.', cards = false, kind = '', isCaptionShown = false }) {
  if (!rows.length) return el('p', { class: 'empty', text: empty });
  const head = columns.map(({ label, align }) => el('th', { scope: 'col', class: align === 'right' && 'right', text: label }));
  const body = rows.map((row) => el('tr', {}, columns.map((column, at) => cellOf(column, row, at))));
  const caps = el('caption', { class: !isCaptionShown && 'unseen', text: caption });
  const whole = el('table', { class: [kind, cards && 'cards'].filter(Boolean).join(' ') || null }, caps, el('thead', {}, el('tr', {}, head)), el('tbody', {}, body));
  return el('div', { class: 'scroll', role: 'region', 'aria-label': caption, tabindex: '0' }, whole);
}

function cellOf({ name, label, align, cell }, row, at) {
  const content = cell ? cell(row) : row[name];
  const props = { class: align === 'right' && 'right', dataset: { label } };
  return at === 0 ? el('th', { scope: 'row', ...props }, content) : el('td', props, content);
}

/**
 * Pages of a list, one at a time, so that a list of any length costs one page.
 * @param {{load: (after: string|null) => Promise<{data: any[], has_more: boolean, last_id: string|null}>,
 *   render: (rows: any[]) => Node|Node[]|string, label?: string}} what load: may raise
 * @returns {{node: HTMLElement, reload: () => Promise<void>, restart: () => Promise<void>}} reload: this page; restart: the first one
 */
export function pager({ load, render, label = 'Pages' }) {
  let afters = [null];
  const body = el('div', { 'aria-live': 'off', tabindex: '-1' });
  const place = el('span', { class: 'muted' });
  // From the page that is shown, so that a second click while the first one waits asks for the same page.
  const back = button('Previous', () => read(afters.slice(0, -1)));
  const next = button('Next', () => read([...afters, last]));
  const bar = el('nav', { class: 'pager', 'aria-label': label, hidden: true }, back, place, next);
  let last = null;
  let asked = 0;

  async function read(wanted) {
    const mine = (asked += 1);
    body.setAttribute('aria-busy', 'true');
    if (!body.childNodes.length) replace(body, loading());
    try {
      const page = await load(wanted.at(-1));
      if (mine !== asked) return;
      afters = wanted;
      last = page.last_id;
      renew(body, render(page.data));
      place.textContent = `Page ${afters.length}`;
      const isInBar = bar.contains(document.activeElement);
      back.disabled = afters.length < 2;
      next.disabled = !page.has_more;
      bar.hidden = back.disabled && next.disabled;
      // A button that is out of use gives the focus to the list that it led to.
      if (isInBar && (bar.hidden || document.activeElement.disabled)) body.focus({ preventScroll: true });
    } catch (error) {
      if (error?.name === 'AbortError') return;
      if (mine === asked) renew(body, errorBox(error, { again: () => read(wanted), comesBack: true }));
    } finally {
      if (mine === asked) body.removeAttribute('aria-busy');
    }
  }

  const reload = () => read(afters);
  const restart = () => read([null]);

  return { node: el('div', {}, body, bar), reload, restart };
}

/**
 * A question before what cannot be undone. The focus is kept in it, and given back after it.
 * @param {{title: string, text: string, action: string, kind?: 'danger'|'primary'}} what action: the button's word
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, action, kind = 'danger' }) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const id = newId('dialog');
    const done = (answer) => () => dialog.close(answer);
    // The harmless one comes first, so it has the focus.
    const buttons = el('div', { class: 'row' }, button('Cancel', done('')), button(action, done('yes'), { kind }));
    const dialog = el('dialog', { 'aria-labelledby': id }, el('h2', { id, text: title }), el('p', { text }), buttons);
    dialog.addEventListener('close', () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * A line that screen readers say.
 * @param {'info'|'good'|'warning'|'error'} kind @param {string} text
 * @returns {HTMLElement}
 */
export function notice(kind, text) {
  return el('p', { class: `notice ${kind}`, role: kind === 'error' ? 'alert' : 'status', text });
}

/**
 * What went wrong, and what to change. An error that may pass (no answer, 429, 503) has a button that tries again.
 * @param {any} error
 * @param {{again?: (() => void)|null, comesBack?: boolean}} [options] again: what the button does; null: there is none, as of what
 *   was typed and can be sent again; without it the page is shown anew, by itself as well when the gateway is back. comesBack:
 *   `again` is done then too
 * @returns {HTMLElement}
 */
export function errorBox(error, { again, comesBack = again === undefined } = {}) {
  const isOurs = error instanceof ApiError;
  const passes = isOurs && [0, 429, 503].includes(error.status);
  const onClick = again ?? (() => window.dispatchEvent(new Event('hashchange')));
  const facts = isOurs
    ? [
        error.param && `parameter ${error.param}`,
        error.retryAfter && `again after ${error.retryAfter} s`,
        error.requestId && `request ${error.requestId}`,
      ].filter(Boolean)
    : [];
  return el(
    'div',
    { class: 'notice error', role: 'alert', dataset: passes && comesBack ? { passes: again ? 'part' : 'page' } : {} },
    el('p', { text: isOurs ? error.message : `The page failed: ${error?.message ?? error}` }),
    facts.length > 0 && el('p', { class: 'muted', text: facts.join(' · ') }),
    passes && again !== null && button('Try again', onClick),
  );
}

/**
 * Text to copy, such as a command.
 * @param {string} text @param {{label?: string}} [options] label: what it is
 * @returns {HTMLElement}
 */
export function code(text, { label = 'Code' } = {}) {
  const said = el('span', { class: 'muted', role: 'status' });
  const copy = button('Copy', async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(body);
      said.textContent = 'Selected: copy it by keyboard';
    }
  }, { kind: 'quiet', name: `Copy ${label}` });
  const body = el('code', { text });
  const box = el('pre', { tabindex: '0', role: 'region', 'aria-label': label }, body);
  return el('div', { class: 'code' }, el('div', { class: 'row' }, el('span', { class: 'muted', text: label }), said, copy), box);
}

/** A word with a state; never by colour alone. @param {'good'|'warning'|'bad'|'plain'} kind @param {string} text @returns {HTMLElement} */
export function badge(kind, text) {
  return el('span', { class: `badge ${kind}`, text });
}

/** What stands where data will be. @param {string} [text] @returns {HTMLElement} */
export function loading(text = 'Loading') {
  return el('p', { class: 'muted loading', role: 'status', 'aria-busy': 'true', text: `${text} …` });
}

/**
 * Facts: term and value, side by side.
 * @param {[string, any][]} rows a value that is null is said to be unknown
 * @returns {HTMLElement}
 */
export function facts(rows) {
  const pairs = rows.map(([term, value]) => el('div', {}, el('dt', { text: term }), el('dd', {}, value ?? 'unknown')));
  return el('dl', { class: 'facts' }, pairs);
}
