import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { ApiError, api, calls, eventParser, session, stream } from '../lib/api.js';

const realFetch = globalThis.fetch;
let asked = [];

afterEach(() => {
  globalThis.fetch = realFetch;
  asked = [];
  session.key = '';
});

function answerWith(...answers) {
  globalThis.fetch = async (url, options) => {
    asked.push({ url, ...options });
    const next = answers.shift();
    if (next instanceof Error) throw next;
    return next;
  };
}

function json(value, status = 200, headers = {}) {
  return new Response(JSON.stringify(value), { status, headers });
}

async function told(type, act) {
  const found = [];
  const listen = ({ detail }) => found.push(detail);
  calls.addEventListener(type, listen);
  await act();
  calls.removeEventListener(type, listen);
  return found;
}

test('events are the same however their bytes are cut', () => {
  const text = ': a comment\r\nevent: now\ndata: {"a": 1}\n\nid: 7\ndata: two\ndata: lines\n\ndata: [DONE]\n\nevent: none\n\nevent:tight\ndata:{"b":[2]}\n\n';
  const whole = [
    { event: 'now', data: { a: 1 } },
    { event: 'message', data: 'two\nlines' },
    { event: 'message', data: '[DONE]' },
    { event: 'tight', data: { b: [2] } },
  ];
  assert.deepEqual(eventParser()(text), whole);
  for (const size of [1, 2, 3, 7, 50]) {
    const parse = eventParser();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...parse(text.slice(at, at + size)));
    assert.deepEqual(found, whole);
  }
});

test('an event without its empty line is not given', () => {
  const parse = eventParser();
  assert.deepEqual(parse('data: 1\n'), []);
  assert.deepEqual(parse('\n'), [{ event: 'message', data: 1 }]);
});

test('a call has the key, its body as JSON, and no parameter that is empty', async () => {
  session.key = 'tr-a';
  answerWith(json({ ok: true }, 200, { 'x-request-id': 'req_1' }));
  const { data, headers } = await api('/v1/x', { method: 'POST', body: { a: null }, query: { a: '', b: null, c: undefined, d: 0, e: 'ü&' } });
  assert.deepEqual(data, { ok: true });
  assert.equal(headers.get('x-request-id'), 'req_1');
  const [call] = asked;
  assert.equal(call.url, '/v1/x?d=0&e=%C3%BC%26');
  assert.equal(call.headers.authorization, 'Bearer tr-a');
  assert.equal(call.body, '{"a":null}');
  assert.equal(call.credentials, 'omit');
});

test('without a key none is sent', async () => {
  answerWith(json({}));
  await api('/v1/x');
  assert.equal('authorization' in asked[0].headers, false);
});

test('an answer without a body is null', async () => {
  answerWith(new Response('', { status: 200 }));
  assert.equal((await api('/v1/x')).data, null);
});

test('an error says what the gateway said', async () => {
  const body = { error: { message: 'no such model', type: 'invalid_request_error', param: 'model', code: 'not_found' } };
  answerWith(json(body, 404, { 'x-request-id': 'req_9', 'retry-after': '3' }));
  const error = await api('/v1/x').catch((one) => one);
  assert.ok(error instanceof ApiError);
  const { message, status, code, param, requestId, retryAfter } = error;
  assert.deepEqual({ message, status, code, param, requestId, retryAfter }, { message: 'no such model', status: 404, code: 'not_found', param: 'model', requestId: 'req_9', retryAfter: 3 });
});

test('an error that is no JSON has its status', async () => {
  answerWith(new Response('<html>', { status: 502 }));
  const error = await api('/v1/x').catch((one) => one);
  assert.equal(error.message, 'the gateway answered 502');
  assert.equal(error.status, 502);
});

test('the shell is told of a key that is not in force, once', async () => {
  answerWith(json({ error: { message: 'no' } }, 401));
  const found = await told('unauthorized', () => api('/v1/x').catch(() => {}));
  assert.deepEqual(found.map(({ status }) => status), [401]);
});

test('the shell is told of a gateway that is away, and of one that cannot answer', async () => {
  answerWith(new TypeError('Failed to fetch'), json({ error: { message: 'the database does not answer' } }, 503));
  const found = await told('down', async () => {
    await api('/v1/x').catch(() => {});
    await api('/v1/x').catch(() => {});
  });
  assert.deepEqual(found.map(({ status }) => status), [0, 503]);
});

test('a call that is ended is no fault of the gateway', async () => {
  answerWith(new DOMException('ended', 'AbortError'));
  let name = '';
  const found = await told('down', async () => {
    name = await api('/v1/x').catch((error) => error.name);
  });
  assert.equal(name, 'AbortError');
  assert.deepEqual(found, []);
});

test('a stream gives its events, and tells its headers first', async () => {
  const parts = ['event: hel', 'lo\ndata: {"a":1}\n', '\nevent: now\ndata: {"b":2}\n\n', 'data: cut'];
  const bytes = new ReadableStream({
    start(controller) {
      parts.forEach((part) => controller.enqueue(new TextEncoder().encode(part)));
      controller.close();
    },
  });
  answerWith(new Response(bytes, { headers: { 'x-request-id': 'req_2' } }));
  const found = [];
  let id = '';
  for await (const event of stream('/v1/live', { onOpen: (headers) => (id = headers.get('x-request-id')) })) found.push([id, event]);
  assert.deepEqual(found, [['req_2', { event: 'hello', data: { a: 1 } }], ['req_2', { event: 'now', data: { b: 2 } }]]);
});

test('who leaves a stream ends its call', async () => {
  answerWith(new Response(new ReadableStream({ pull: (controller) => controller.enqueue(new TextEncoder().encode('data: 1\n\n')) })));
  for await (const { data } of stream('/v1/live')) {
    assert.equal(data, 1);
    break;
  }
  assert.equal(asked[0].signal.aborted, true);
});

test('a stream that is refused raises as a call does', async () => {
  answerWith(json({ error: { message: 'too many streams' } }, 429, { 'retry-after': '1' }));
  const error = await stream('/v1/live').next().catch((one) => one);
  assert.equal(error.status, 429);
});
