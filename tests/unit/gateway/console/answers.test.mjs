import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Answer, chargedOf, costOf, describeCache, factsOf, stagesOf } from '../../../../src/trireme/gateway/console/static/lib/answers.js';

function taken(...frames) {
  const answer = new Answer();
  frames.forEach((frame) => answer.take(frame));
  return answer;
}

function chunk(delta, more = {}) {
  return { model: 'rag', choices: [{ index: 0, delta, finish_reason: null }], ...more };
}

const DETAILS = { answer_mode: 'extractive', embed_ms: 7, rerank_ms: 469.4, generate_ms: 0, passages: 20, reranked_passages: 8, second_opinion: 'agreed' };

test('an answer grows by its chunks, and keeps what comes with the last ones', () => {
  const answer = taken(
    chunk({ role: 'assistant', content: '' }),
    chunk({ reasoning_content: 'hm' }),
    chunk({ content: 'Oars ' }),
    chunk({ content: 'are of fir [1].' }),
    chunk({ annotations: [] }, { trireme: { sources: [{ number: 1 }], details: DETAILS } }),
    { model: 'rag', choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] },
    { model: 'rag', choices: [], usage: { prompt_tokens: 3, completion_tokens: 4 } },
    '[DONE]',
  );
  assert.equal(answer.text, 'Oars are of fir [1].');
  assert.equal(answer.thinking, 'hm');
  assert.deepEqual(answer.sources, [{ number: 1 }]);
  assert.deepEqual([answer.model, answer.reason, answer.isWhole, answer.error], ['rag', 'stop', true, null]);
  assert.deepEqual(answer.usage, { prompt_tokens: 3, completion_tokens: 4 });
});

test('a stream that breaks off keeps its text and its error, and is not whole', () => {
  const answer = taken(chunk({ content: 'Oars' }), { error: { message: 'cut' } });
  assert.deepEqual([answer.text, answer.error, answer.isWhole], ['Oars', { message: 'cut' }, false]);
});

test('a usage of null in a chunk takes nothing back', () => {
  assert.deepEqual(taken({ choices: [], usage: { prompt_tokens: 1 } }, chunk({ content: 'a' }, { usage: null })).usage, { prompt_tokens: 1 });
});

test('stages that did not run are left out', () => {
  assert.deepEqual(stagesOf(DETAILS).map(({ ms }) => ms), [7, 469.4]);
  assert.deepEqual(stagesOf(null), []);
});

test('a cache header is put into words', () => {
  assert.equal(describeCache('exact; age=12'), 'exact: an equal question was asked before, kept for 12 s');
  assert.match(describeCache('semantic; sim=0.934; score=0.81; age=3'), /^semantic: .*kept for 3 s, cosine 0\.934$/);
  assert.match(describeCache('miss; semantic=off'), /the semantic cache is off/);
  assert.equal(describeCache(null), null);
});

test('facts hold what was said, and no row for what nobody said', () => {
  const headers = new Headers({ 'x-request-id': 'r1', 'x-trireme-step': 'big', 'x-trireme-escalated': 'small=unsure', 'x-trireme-attempts': '2' });
  const answer = taken(chunk({ content: 'a' }, { trireme: { sources: [], details: DETAILS } }), { choices: [], usage: { prompt_tokens: 1200, completion_tokens: 4, prompt_tokens_details: { cached_tokens: 512 } } });
  const facts = new Map(factsOf({ answer, headers, firstMs: 31, totalMs: 1200 }));
  assert.equal(facts.get('Step'), 'big, after small: unsure');
  assert.equal(facts.get('Attempts'), '2');
  assert.equal(facts.get('Tokens of the LLM'), '1,200 read (512 of them cached), 4 written');
  assert.equal(facts.get('Passages'), '20 found, 8 reranked');
  assert.equal(facts.get('Request'), 'r1');
  for (const absent of ['Cache', 'Left out under load', 'Chance of an answer', 'Ended by']) assert.equal(facts.has(absent), false);
});

test('a cost without a price is no zero', () => {
  const total = { dollars: '0', saved_dollars: '0' };
  assert.equal(costOf({ is_priced: false, total }), 'no price is set');
  assert.equal(costOf({ is_priced: true, total }), '$0');
  assert.match(costOf({ is_priced: true, total: { dollars: '0', saved_dollars: '0.5' } }), /^\$0; a cache saved \$0\.50/);
  assert.equal(costOf(null), 'not in the ledger');
});

test('what was charged is the whole request, and unknown where the ledger does not say', () => {
  const total = { input_tokens: 1330, output_tokens: 0, dollars: '0', saved_dollars: '0' };
  assert.equal(chargedOf({ is_priced: false, total }), '1,330 tokens read, 0 written');
  assert.equal(chargedOf({ is_priced: true, total: { dollars: '1', saved_dollars: '0' } }), null);
  assert.equal(chargedOf(null), null);
});
