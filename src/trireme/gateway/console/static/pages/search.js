/** Search: the same question with reranking and without, side by side. */

import { api } from '../lib/api.js';
import { duration, number } from '../lib/format.js';
import { moves, readFilter, splitLead } from '../lib/passages.js';
import { draft } from '../lib/drafts.js';
import { badge, button, el, errorBox, field, loading, newId, replace, select } from '../lib/ui.js';
import { collectionField } from './choices.js';
import { openPassage } from './passage_dialog.js';
import { recipesOf } from './recipe_view.js';

// What is said of a passage that stands further down, further up, or not at all in the other list.
const RERANKED = { up: 'up from', down: 'down from', none: 'new' };
const RETRIEVED = { up: 'falls to', down: 'rises to', none: 'falls out' };
const BETTER = ['up from', 'rises to'];

/**
 * @param {{me: any, signal: AbortSignal}} page
 * @returns {HTMLElement}
 */
export function search({ me, signal }) {
  const query = el('input', { type: 'search', class: 'wide', dir: 'auto', required: true, placeholder: 'what does the batcher wait for?', name: 'query' });
  draft('search.query', query);
  const collection = collectionField({ me, signal });
  const mode = select([['', 'the server’s'], ['hybrid', 'hybrid'], ['dense', 'dense: vectors'], ['text', 'text: words'], ['sparse', 'sparse: weights of terms']]);
  const most = el('input', { type: 'number', min: 1, max: 100, value: '5' });
  const filter = filterField();
  const result = el('div', { class: 'stack result' });
  let running = null;
  const submit = (event) => {
    event.preventDefault();
    const wanted = filter.read();
    if (wanted === undefined) return;
    running?.abort();
    running = new AbortController();
    const body = { query: query.value, collection: collection.value() };
    if (mode.value) body.mode = mode.value;
    if (most.value) body.top_k = Number(most.value);
    if (wanted) body.filter = wanted;
    if (!body.collection) delete body.collection;
    compare(body, result, AbortSignal.any([signal, running.signal]), () => form.requestSubmit());
  };
  const form = el(
    'form',
    { class: 'stack panel', role: 'search', on: { submit } },
    field('Query', query),
    el('div', { class: 'row end' }, collection.node, field('Mode', mode), field('Passages', most), el('button', { type: 'submit', class: 'primary', text: 'Search' })),
    filter.node,
  );
  return el('div', { class: 'stack tool' }, form, result);
}

/** A filter is checked as it is typed. read: undefined where it is wrong, and the field has the focus. */
function filterField() {
  const input = el('input', { class: 'wide mono', autocomplete: 'off', spellcheck: 'false', placeholder: '{"source": "handbook.md"}', name: 'filter' });
  const fault = el('p', { class: 'hint bad', id: newId('fault'), role: 'alert', hidden: true });
  const look = () => {
    const found = readFilter(input.value);
    fault.textContent = found.fault;
    fault.hidden = !found.fault;
    if (!found.fault) input.removeAttribute('aria-invalid');
    return found;
  };
  const judge = () => {
    const found = look();
    if (found.fault) input.setAttribute('aria-invalid', 'true');
    return found;
  };
  // Told once the field is left: half a filter is no fault yet.
  input.addEventListener('change', judge);
  input.addEventListener('input', () => input.hasAttribute('aria-invalid') && look());
  const node = field('Filter', input, { hint: 'JSON that a passage’s metadata must contain. Blank: all passages.' });
  input.setAttribute('aria-errormessage', fault.id);
  node.append(fault);
  const read = () => {
    const found = judge();
    if (!found.fault) return found.filter;
    input.focus();
    return undefined;
  };
  return { node, read };
}

/** Search twice, one after the other, so that neither slows the other down. Does not raise. */
async function compare(body, result, signal, again) {
  replace(result, loading('Searching'));
  result.setAttribute('aria-busy', 'true');
  const calls = [body, { ...body, rerank: false }].map((one) => ({ path: '/v1/search', body: one }));
  try {
    const reranked = await timed(calls[0], signal);
    const plain = await timed(calls[1], signal);
    const columns = el('div', { class: 'pair' });
    replace(result, columns, recipesOf(calls[0], 'The list as retrieved is the same search with "rerank": false.'));
    replace(
      columns,
      list('Reranked', reranked, { signal, before: idsOf(plain), words: RERANKED }),
      list('As retrieved', plain, { signal, before: idsOf(reranked), words: RETRIEVED }),
    );
  } catch (error) {
    if (!signal.aborted) replace(result, errorBox(error, { again }), recipesOf(calls[0]));
  } finally {
    if (!signal.aborted) result.removeAttribute('aria-busy');
  }
}

async function timed(call, signal) {
  const began = performance.now();
  const { data, headers } = await api(call.path, { method: 'POST', body: call.body, signal });
  return { ms: performance.now() - began, passages: data.passages, collection: data.collection, degraded: headers.get('x-trireme-degraded') };
}

function idsOf({ passages }) {
  return passages.map(({ id }) => id);
}

function list(label, { ms, passages, collection, degraded }, { signal, before, words }) {
  const id = newId('column');
  const moved = moves(before, passages.map((passage) => passage.id));
  const rows = passages.map((passage, place) => hit(passage, place, describeMove(moved.get(passage.id), place, words), { collection, signal }));
  return el(
    'section',
    { class: 'stack', 'aria-labelledby': id },
    el('h2', { id, text: label }),
    el('p', { class: 'muted', text: [`${duration(ms)}`, countOf(passages), degraded && `left out under load: ${degraded}`].filter(Boolean).join(' · ') }),
    passages.length ? el('ol', { class: 'hits' }, rows) : el('p', { class: 'empty', text: 'No passage fits. Is the filter too narrow, or the collection another one?' }),
  );
}

function countOf(passages) {
  return passages.length === 1 ? '1 passage' : `${number(passages.length)} passages`;
}

/** How a passage stands in the other list. @returns {[string, string]} the kind of badge, and its words */
function describeMove(by, place, { up, down, none }) {
  if (by === null) return ['warning', none];
  if (by === 0) return ['plain', 'same place'];
  const word = by > 0 ? up : down;
  return [BETTER.includes(word) ? 'good' : 'plain', `${word} ${place + by + 1}`];
}

function hit(passage, place, [kind, words], { collection, signal }) {
  const { source } = passage.metadata;
  const [lead, own] = splitLead(passage);
  const open = () => openPassage({ ...passage, source: source ?? passage.id, collection }, { signal });
  const text = el('p', { class: 'text clamp', dir: 'auto', text: own });
  return el(
    'li',
    {},
    el(
      'div',
      { class: 'row' },
      el('span', { class: 'place', text: `${place + 1}` }),
      el('span', { class: 'wrap strong', dir: 'auto', text: source ?? passage.id }),
      badge(kind, words),
      el('span', { class: 'muted score', text: passage.score.toFixed(3) }),
    ),
    lead && el('p', { class: 'muted wrap', dir: 'auto', text: lead }),
    text,
    button('Open', open, { kind: 'quiet', name: `Open passage ${passage.id}` }),
  );
}
