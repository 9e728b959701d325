import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

import { asCurl, asPython, literal, quote } from '../../../../src/trireme/gateway/console/static/lib/recipes.js';

const HOSTILE = `it's "quoted" $HOME \`id\` \\ new\nline ${'\u2028'} 😀 שלום !x %s {x}`;

test('a word of the shell is one word, whatever stands in it', () => {
  const { stdout } = spawnSync('sh', ['-c', `printf %s ${quote(HOSTILE)}`], { encoding: 'utf8' });
  assert.equal(stdout, HOSTILE);
  assert.equal(quote('http://127.0.0.1:8080/v1'), 'http://127.0.0.1:8080/v1');
  assert.equal(quote(''), "''");
});

test('a literal of Python is the value that it was made of', () => {
  const value = { text: HOSTILE, many: Array.from({ length: 40 }, (_, at) => at), is: true, not: false, none: null, half: '\ud83d', deep: [{ a: [1.5, -2e-7] }] };
  const program = `import json, sys; sys.stdout.write(json.dumps(${literal(value)}))`;
  const { stdout, stderr } = spawnSync('python3', ['-c', program], { encoding: 'utf8' });
  assert.deepEqual(JSON.parse(stdout || 'null'), value, stderr);
});

test('a recipe says what was sent, and names the key without its secret', () => {
  const call = { path: '/v1/search', body: { query: HOSTILE, rerank: false } };
  const curl = asCurl(call, 'http://127.0.0.1:8080');
  assert.match(curl, /^curl -sS http:\/\/127\.0\.0\.1:8080\/v1\/search \\\n/);
  assert.match(curl, /"authorization: Bearer \$KEY"/);
  assert.match(asPython(call, 'http://127.0.0.1:8080'), /api_key=environ\["KEY"\]/);
});

test('what the package openai does not know of a chat goes as extra_body', () => {
  const body = { model: 'rag', messages: [{ role: 'user', content: 'q' }], stream: true, trireme: { collection: 'notes' } };
  assert.match(asPython({ path: '/v1/chat/completions', body }, 'http://h'), /extra_body=\{"trireme": \{"collection": "notes"\}\}/);
  assert.match(asCurl({ path: '/v1/chat/completions', body }, 'http://h'), /^curl -sSN /);
});

test('a call without a recipe is an error', () => {
  assert.throws(() => asPython({ path: '/v1/keys', body: {} }, 'http://h'), /no recipe/);
});
