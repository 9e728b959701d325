/** Compare: two texts as vectors, and how near they are. */

import { api } from '../lib/api.js';
import { duration, number } from '../lib/format.js';
import { cosine } from '../lib/passages.js';
import { draft } from '../lib/drafts.js';
import { el, errorBox, facts, field, loading, replace, svg } from '../lib/ui.js';
import { modelField, modelsThat } from './choices.js';
import { recipesOf } from './recipe_view.js';

/**
 * @param {{me: any, signal: AbortSignal}} page
 * @returns {HTMLElement}
 */
export function embed({ signal }) {
  const first = textArea('compare.first', 'A trireme has three banks of oars.');
  const second = textArea('compare.second', 'Rowers sit on three levels.');
  const model = modelField('Model', modelsThat('embed'), { signal, usual: 'embedding' });
  const dimensions = el('input', { type: 'number', min: 1, placeholder: 'all' });
  const result = el('div', { class: 'stack result' });
  let running = null;
  const submit = (event) => {
    event.preventDefault();
    running?.abort();
    running = new AbortController();
    const body = { model: model.value(), input: [first.value, second.value] };
    if (dimensions.value) body.dimensions = Number(dimensions.value);
    compare({ path: '/v1/embeddings', body }, result, AbortSignal.any([signal, running.signal]), () => form.requestSubmit());
  };
  const form = el(
    'form',
    { class: 'stack panel', on: { submit } },
    el('div', { class: 'pair' }, field('First text', first), field('Second text', second)),
    el('div', { class: 'row end' }, model.node, field('Dimensions', dimensions), el('button', { type: 'submit', class: 'primary', text: 'Compare' })),
  );
  return el('div', { class: 'stack tool' }, form, result);
}

function textArea(name, placeholder) {
  return draft(name, el('textarea', { rows: 3, dir: 'auto', required: true, placeholder }));
}

async function compare(call, result, signal, again) {
  replace(result, loading('Embedding'));
  const began = performance.now();
  try {
    const { data } = await api(call.path, { method: 'POST', body: call.body, signal });
    replace(result, view(data, performance.now() - began), recipesOf(call));
  } catch (error) {
    if (!signal.aborted) replace(result, errorBox(error, { again }), recipesOf(call));
  }
}

function view({ data, model, usage }, ms) {
  const [first, second] = data.map(({ embedding }) => embedding);
  const near = cosine(first, second);
  return el(
    'section',
    { class: 'stack', 'aria-label': 'Comparison' },
    el('p', { class: 'muted', text: 'Cosine of the two vectors: 1 means the same, 0 unrelated.' }),
    el('p', { class: 'figure', role: 'status', text: near === null ? 'unknown' : near.toFixed(4) }),
    near !== null && scale(near),
    facts([
      ['Model', model],
      ['Dimensions', number(first.length)],
      ['Tokens', number(usage?.prompt_tokens ?? null)],
      ['Time', duration(ms)],
    ]),
  );
}

/** Where the cosine stands between -1 and 1. The figure says it too. */
function scale(value) {
  const at = 50 + 50 * Math.max(-1, Math.min(1, value));
  return el(
    'div',
    { class: 'scale', 'aria-hidden': 'true' },
    svg(
      'svg',
      { viewBox: '0 0 100 10', preserveAspectRatio: 'none' },
      svg('rect', { class: 'base', y: 4, width: 100, height: 2 }),
      svg('rect', { class: 'part', x: Math.min(50, at).toFixed(2), y: 3, width: Math.abs(at - 50).toFixed(2), height: 4 }),
      svg('rect', { class: 'here', x: (at - 0.3).toFixed(2), width: 0.6, height: 10 }),
    ),
    el('div', { class: 'row apart muted' }, el('span', { text: '−1' }), el('span', { text: '0' }), el('span', { text: '1' })),
  );
}
