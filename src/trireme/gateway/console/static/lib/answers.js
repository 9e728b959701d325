/** A streamed answer as it grows, and what is known of how it was made. Pure: it asks nobody. */

import { dollars, duration, number } from './format.js';

/** Stages of a rag answer by their name in its details, in the order in which they run. */
const STAGES = [
  ['embed_ms', 'Embed the question'],
  ['retrieve_ms', 'Find passages'],
  ['rerank_ms', 'Rerank them'],
  ['sentences_ms', 'Score sentences'],
  ['generate_ms', 'Write'],
];
const MODES = {
  extractive: 'the best sentence, word for word',
  generative: 'written by the LLM from the passages',
  none: 'nothing relevant was found',
};
const OPINIONS = {
  refused: 'the LLM found no answer in the passages',
  agreed: 'the LLM agreed with the sentence',
  differs: 'the LLM said something else',
};
const CACHES = {
  miss: 'not there; asked anew',
  exact: 'exact: an equal question was asked before',
  semantic: 'semantic: a question of the same meaning was asked before',
  bypass: 'not asked',
  flight: 'shared with an equal question that was being answered',
};

/** What the chunks of POST /v1/chat/completions said so far. */
export class Answer {
  text = '';
  thinking = '';
  sources = [];
  details = null;
  usage = null;
  model = '';
  /** Why it ended: stop, length, ...; "" before its end. */
  reason = '';
  /** Of a stream that broke off: what the error frame says. */
  error = null;
  /** Whether the end was seen: without it the answer is cut. */
  isWhole = false;

  /** @param {any} data of one frame: a chunk, an error, or "[DONE]" */
  take(data) {
    if (data === '[DONE]') this.isWhole = true;
    if (data === null || typeof data !== 'object') return;
    if (data.error) this.error = data.error;
    this.model ||= data.model ?? '';
    this.usage = data.usage ?? this.usage;
    const choice = data.choices?.[0];
    this.text += (choice?.delta?.content ?? '') + (choice?.delta?.refusal ?? '');
    this.thinking += choice?.delta?.reasoning_content ?? '';
    this.reason = choice?.finish_reason ?? this.reason;
    if (data.trireme) {
      this.sources = data.trireme.sources ?? [];
      this.details = data.trireme.details ?? null;
    }
  }
}

/**
 * @param {any} details of a rag answer, or null
 * @returns {{label: string, ms: number}[]} stages that ran, in order
 */
export function stagesOf(details) {
  return STAGES.map(([name, label]) => ({ label, ms: Number(details?.[name] ?? 0) })).filter(({ ms }) => ms > 0);
}

/**
 * @param {string|null} value of the header x-trireme-cache
 * @returns {string|null} in words; null where no cache was asked
 */
export function describeCache(value) {
  if (!value) return null;
  const [tier, ...pairs] = value.split(';').map((part) => part.trim());
  const said = new Map(pairs.map((pair) => pair.split('=')));
  const more = [];
  if (said.has('age')) more.push(`kept for ${duration(Number(said.get('age')) * 1000)}`);
  if (said.has('sim')) more.push(`cosine ${said.get('sim')}`);
  if (said.get('semantic') === 'off') more.push('the semantic cache is off');
  return [CACHES[tier] ?? tier, ...more].join(', ');
}

/**
 * What an answer was, row by row. What nobody said is left out: only a cost that is not known is said to be so.
 * @param {{answer: Answer, headers: Headers, firstMs: number|null, totalMs: number|null}} made firstMs, totalMs: as this page saw it
 * @returns {[string, string][]}
 */
export function factsOf({ answer, headers, firstMs, totalMs }) {
  const details = answer.details ?? {};
  const rows = [
    ['Model', answer.model],
    ['Served by', headers.get('x-trireme-served-by')],
    ['Step', stepOf(headers)],
    ['How', MODES[details.answer_mode] ?? details.answer_mode],
    ['Second opinion', OPINIONS[details.second_opinion] ?? details.second_opinion],
    ['Chance of an answer', isNumber(details.relevance) ? number(details.relevance, 3) : null],
    ['Cache', describeCache(headers.get('x-trireme-cache'))],
    ['Left out under load', headers.get('x-trireme-degraded')],
    ['Attempts', attemptsOf(headers)],
    [answer.details ? 'Tokens of the LLM' : 'Tokens', tokensOf(answer.usage)],
    ['Passages', passagesOf(details)],
    ['First words', isNumber(firstMs) ? `after ${duration(firstMs)}` : null],
    ['Whole answer', isNumber(totalMs) ? `after ${duration(totalMs)}` : null],
    ['Ended by', answer.reason && answer.reason !== 'stop' ? answer.reason : null],
    ['Request', headers.get('x-request-id')],
  ];
  return rows.filter(([, value]) => value !== null && value !== undefined && value !== '');
}

/**
 * @param {any|null} request what GET /v1/requests/{id} says; null: it is not in the ledger (yet)
 * @returns {string}
 */
export function costOf(request) {
  if (request === null) return 'not in the ledger';
  if (!request.is_priced) return 'no price is set';
  const { dollars: spent, saved_dollars: saved } = request.total;
  return Number(saved) > 0 ? `${dollars(spent)}; a cache saved ${dollars(saved)}` : dollars(spent);
}

/**
 * What the tenant was charged for: more than the LLM's tokens, since embedding and reranking read too.
 * @param {any|null} request as `costOf` takes it
 * @returns {string|null} null where the ledger says nothing
 */
export function chargedOf(request) {
  if (request === null || !isNumber(request.total.input_tokens)) return null;
  const { input_tokens: read, output_tokens: written } = request.total;
  return `${number(read)} tokens read, ${number(written)} written`;
}

function stepOf(headers) {
  const step = headers.get('x-trireme-step');
  const before = headers.get('x-trireme-escalated');
  if (!step) return null;
  return before ? `${step}, after ${before.replaceAll('=', ': ')}` : step;
}

function attemptsOf(headers) {
  const attempts = headers.get('x-trireme-attempts');
  return attempts && attempts !== '1' ? attempts : null;
}

function tokensOf(usage) {
  if (!usage) return null;
  const cached = usage.prompt_tokens_details?.cached_tokens;
  const read = isNumber(usage.prompt_tokens) ? `${number(usage.prompt_tokens)} read` : null;
  const known = cached ? ` (${number(cached)} of them cached)` : '';
  const written = isNumber(usage.completion_tokens) ? `${number(usage.completion_tokens)} written` : null;
  return [read && read + known, written].filter(Boolean).join(', ') || null;
}

function passagesOf(details) {
  if (!isNumber(details.passages)) return null;
  const read = isNumber(details.reranked_passages) ? `, ${number(details.reranked_passages)} reranked` : '';
  return `${number(details.passages)} found${read}`;
}

function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}
