/** An answer on the page: citations that open, sources, facts, the time of each stage. */

import { factsOf, stagesOf } from '../lib/answers.js';
import { duration } from '../lib/format.js';
import { splitCitations } from '../lib/passages.js';
import { button, el, facts, heading, svg } from '../lib/ui.js';
import { openPassage } from './passage_dialog.js';

/**
 * The text, its citations as buttons that open the passage.
 * @param {import('../lib/answers.js').Answer} answer
 * @param {{collection: string, signal: AbortSignal}} open
 * @returns {(string|HTMLElement)[]}
 */
export function citedText(answer, open) {
  const sources = new Map(answer.sources.map((source) => [source.number, source]));
  return splitCitations(answer.text, sources.keys()).map((part) =>
    'text' in part ? part.text : part.numbers.map((number) => cite(sources.get(number), open)),
  );
}

function cite(source, open) {
  const name = `Source ${source.number}: ${source.source}`;
  const node = button(`[${source.number}]`, () => openPassage(placeOf(source, open), open), { kind: 'cite', name });
  node.title = source.source;
  return node;
}

/**
 * The sources, each with its sentence.
 * @param {import('../lib/answers.js').Answer} answer
 * @param {{collection: string, signal: AbortSignal}} open
 * @returns {HTMLElement|null}
 */
export function sourceList(answer, open) {
  if (!answer.sources.length) return null;
  const rows = answer.sources.map((source) =>
    el(
      'li',
      {},
      el('div', { class: 'row' }, cite(source, open), el('span', { class: 'wrap strong', dir: 'auto', text: source.source })),
      el('blockquote', { dir: 'auto', text: source.text }),
    ),
  );
  return el('section', { class: 'stack' }, heading('Sources'), el('ol', { class: 'sources' }, rows));
}

function placeOf(source, { collection }) {
  return { ...source, id: source.passage, collection };
}

/**
 * @param {{answer: import('../lib/answers.js').Answer, headers: Headers, firstMs: number|null, totalMs: number|null}} made
 * @param {{cost: HTMLElement, charged: HTMLElement}} asked filled by the caller once the ledger says it
 * @returns {HTMLElement}
 */
export function factsList(made, { cost, charged }) {
  return el(
    'section',
    { class: 'stack' },
    heading('How it was made'),
    facts([['Cost', cost], ['Charged', charged], ...factsOf(made)]),
    stages(stagesOf(made.answer.details), made.answer.details?.total_ms),
  );
}

/** Time by stage: a bar and a figure each. */
function stages(rows, total) {
  if (!rows.length) return null;
  const whole = Math.max(total ?? 0, ...rows.map(({ ms }) => ms));
  const lines = rows.map(({ label, ms }) =>
    el('tr', {}, el('th', { scope: 'row', text: label }), el('td', { class: 'bar' }, bar(ms / whole)), el('td', { class: 'right', text: duration(ms) })),
  );
  const caption = el('caption', { text: `Time by stage${total ? `, of ${duration(total)} in the model` : ''}` });
  return el('table', { class: 'stages' }, caption, el('tbody', {}, lines));
}

function bar(share) {
  const props = { viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' };
  return svg('svg', props, svg('rect', { width: Math.max(0.5, 100 * share).toFixed(2), height: 8 }));
}
