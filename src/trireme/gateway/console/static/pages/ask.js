/** Ask: a streamed answer, its citations, and the facts of how it was made. */

import { api, ApiError, session, stream } from '../lib/api.js';
import { Answer, chargedOf, costOf } from '../lib/answers.js';
import { draft } from '../lib/drafts.js';
import { button, el, errorBox, field, notice, replace, select } from '../lib/ui.js';
import { citedText, factsList, sourceList } from './answer_view.js';
import { chatModels, collectionField, modelField } from './choices.js';
import { recipesOf } from './recipe_view.js';

// The ledger's rows come within a second or so.
const COST_SECONDS = 5;

/**
 * @param {{me: any, signal: AbortSignal}} page
 * @returns {HTMLElement}
 */
export function ask({ me, signal }) {
  const controls = controlsOf({ me, signal });
  const result = el('section', { class: 'result', 'aria-label': 'Answer' });
  let running = null;
  const start = async () => {
    if (!controls.question.value.trim()) {
      controls.question.focus();
      return;
    }
    running?.abort();
    const mine = (running = new AbortController());
    controls.stop.disabled = false;
    await answer(controls.call(), result, { me, signal, stopped: mine.signal, again: start });
    if (running !== mine) return;
    // Who stopped it by keyboard goes on with the question.
    if (document.activeElement === controls.stop) controls.question.focus();
    controls.stop.disabled = true;
  };
  controls.stop.addEventListener('click', () => running?.abort());
  controls.form.addEventListener('submit', (event) => {
    event.preventDefault();
    start();
  });
  return el('div', { class: 'stack tool' }, controls.form, result);
}

function controlsOf({ me, signal }) {
  const question = el('textarea', { rows: 2, dir: 'auto', required: true, placeholder: 'How do I change the port?', name: 'question' });
  draft('ask.question', question);
  question.addEventListener('keydown', (event) => {
    // Not while a letter is being put together, as for Chinese.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  const model = modelField('Model', chatModels, { signal, usual: 'rag' });
  const collection = collectionField({ me, signal });
  const mode = select([['', 'as the model decides'], 'auto', 'extractive', 'generative']);
  const passages = el('input', { type: 'number', min: 1, max: 100, placeholder: '5' });
  const most = el('input', { type: 'number', min: 1, placeholder: 'the model’s' });
  const temperature = el('input', { type: 'number', min: 0, max: 2, step: 'any', value: '0' });
  const stop = button('Stop', () => {});
  stop.disabled = true;
  const form = el(
    'form',
    { class: 'stack panel' },
    field('Question', question, { hint: 'Enter asks, Shift and Enter begin a new line.' }),
    el('div', { class: 'row end' }, model.node, collection.node, el('button', { type: 'submit', class: 'primary', text: 'Ask' }), stop),
    el(
      'details',
      {},
      el('summary', { text: 'Options' }),
      el(
        'div',
        { class: 'row end options' },
        field('Answer mode', mode),
        field('Passages', passages),
        field('Most tokens', most),
        field('Temperature', temperature, { hint: 'Answers at 0 are cached.' }),
      ),
    ),
  );
  const call = () => callOf({ question, model, collection, mode, passages, most, temperature });
  return { form, question, stop, call };
}

/** The body that is sent, and shown in recipes. What was left blank is not in it. */
function callOf({ question, model, collection, mode, passages, most, temperature }) {
  const body = {
    model: model.value(),
    messages: [{ role: 'user', content: question.value.trim() }],
    stream: true,
    stream_options: { include_usage: true },
  };
  if (temperature.value !== '') body.temperature = Number(temperature.value);
  if (most.value !== '') body.max_tokens = Number(most.value);
  const ours = {};
  if (model.isAnswerer()) {
    if (collection.value()) ours.collection = collection.value();
    if (mode.value) ours.answer_mode = mode.value;
    if (passages.value !== '') ours.passages = Number(passages.value);
  }
  return { path: '/v1/chat/completions', body: Object.keys(ours).length ? { ...body, trireme: ours } : body };
}

/** Ask, and show what comes until its end. Does not raise. */
async function answer(call, result, { me, signal, stopped, again }) {
  const said = new Answer();
  const text = el('p', { class: 'text answer', dir: 'auto', 'aria-busy': 'true' });
  const state = el('p', { class: 'muted', role: 'status', text: 'Asking …' });
  const below = el('div', { class: 'stack' });
  const collection = call.body.trireme?.collection ?? me.default_collection;
  replace(result, el('p', { class: 'asked', dir: 'auto', text: call.body.messages[0].content }), text, state, below);
  const began = performance.now();
  const made = { answer: said, headers: new Headers(), firstMs: null, totalMs: null };
  try {
    const onOpen = (headers) => (made.headers = headers);
    const options = { method: 'POST', body: call.body, signal: AbortSignal.any([signal, stopped]), onOpen };
    for await (const { data } of stream(call.path, options)) {
      said.take(data);
      if (made.firstMs === null && said.text) {
        made.firstMs = performance.now() - began;
        state.textContent = 'Answering …';
      }
      text.textContent = said.text;
    }
    made.totalMs = performance.now() - began;
  } catch (error) {
    if (signal.aborted) return;
    if (!stopped.aborted) {
      said.error = error;
      made.headers = made.headers.has('x-request-id') ? made.headers : new Headers({ 'x-request-id': error.requestId ?? '' });
    }
  }
  text.removeAttribute('aria-busy');
  finish({ made, text, state, below, call, collection, isStopped: stopped.aborted, signal, again });
}

function finish({ made, text, state, below, call, collection, isStopped, signal, again }) {
  const { answer: said } = made;
  const open = { collection, signal };
  state.textContent = stateOf(said, isStopped);
  state.hidden = !state.textContent;
  replace(text, citedText(said, open));
  text.hidden = !said.text;
  const cost = el('span', { text: 'asking the ledger …' });
  const charged = el('span', { text: 'asking the ledger …' });
  const isAnswered = Boolean(made.headers.get('x-request-id')) && Boolean(said.text);
  replace(
    below,
    said.error && errorOf(said.error, again),
    said.thinking && el('details', {}, el('summary', { text: 'Thinking' }), el('p', { class: 'text', dir: 'auto', text: said.thinking })),
    sourceList(said, open),
    isAnswered && factsList(made, { cost, charged }),
    recipesOf(call),
  );
  // An answer in whose place another one stands by now is asked for by nobody.
  if (!isAnswered || !text.isConnected) return;
  readCost(made.headers.get('x-request-id'), signal).then((words) => {
    [cost.textContent, charged.textContent] = words;
  });
}

function stateOf(said, isStopped) {
  if (said.error) return said.text ? 'The answer broke off: this is what had come.' : '';
  if (isStopped) return said.text ? 'Stopped: this is what had come.' : 'Stopped.';
  if (!said.isWhole) return 'The answer broke off: its end did not come.';
  if (!said.text) return 'The answer is empty.';
  const count = said.sources.length;
  return said.details ? `Answered, with ${count === 1 ? '1 source' : `${count} sources`}.` : 'Answered.';
}

function errorOf(error, again) {
  if (!(error instanceof Error)) return notice('error', error.message);
  const box = errorBox(error, { again });
  // A collection begins with its first document: who asks before that is told where to send it.
  if (error.status === 404) box.append(el('a', { href: '#/documents', text: 'Send documents' }));
  return box;
}

/**
 * What the ledger says that a request cost, and the tokens that were charged; the gateway waits for its row, so that no look
 * fails before it is there. Does not raise.
 */
async function readCost(id, signal) {
  const unknown = (why) => [why, 'unknown'];
  if (!session.me?.endpoints.includes('usage')) return unknown('this key may not read usage');
  try {
    const { data } = await api(`/v1/requests/${encodeURIComponent(id)}`, { query: { wait: COST_SECONDS }, signal });
    return [costOf(data), chargedOf(data) ?? 'unknown'];
  } catch (error) {
    if (!(error instanceof ApiError)) return unknown('unknown');
    return unknown(error.status === 404 ? costOf(null) : `unknown: ${error.message}`);
  }
}
