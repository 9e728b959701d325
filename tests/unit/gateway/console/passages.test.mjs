import assert from 'node:assert/strict';
import { test } from 'node:test';

import { cosine, documentOf, moves, readFilter, splitCitations, splitSpan } from '../../../../src/trireme/gateway/console/static/lib/passages.js';

test('citations are cut out where all of their numbers have a source', () => {
  assert.deepEqual(splitCitations('Oars [1] are of fir [2, 1]. See [3] and [1, 3].', [1, 2]), [
    { text: 'Oars ' },
    { numbers: [1] },
    { text: ' are of fir ' },
    { numbers: [2, 1] },
    { text: '. See [3] and [1, 3].' },
  ]);
  assert.deepEqual(splitCitations('[1]', new Map([[1, {}]]).keys()), [{ numbers: [1] }]);
  assert.deepEqual(splitCitations('', [1]), []);
});

test('a span counts characters as the API does, whatever they take of a string', () => {
  assert.deepEqual(splitSpan('😀😀 oar 𝄞.', 3, 6), ['😀😀 ', 'oar', ' 𝄞.']);
  assert.deepEqual(splitSpan('oars', 0, 99), ['', 'oars', '']);
});

test('a span that is not there marks nothing', () => {
  for (const [start, end] of [[4, 9], [2, 2], [-1, 2], [undefined, undefined]]) {
    assert.deepEqual(splitSpan('oars', start, end), ['oars', '', '']);
  }
});

test('a passage names its document by its position, or the answer says it', () => {
  assert.equal(documentOf({ id: 'a#b.md#12', metadata: { position: 12 } }), 'a#b.md');
  assert.equal(documentOf({ id: 'a#12', metadata: { position: 1 } }), 'a#12');
  assert.equal(documentOf({ id: 'corpus#7', metadata: {} }), 'corpus#7');
  assert.equal(documentOf({ id: 'a.md#3' }), 'a.md');
  assert.equal(documentOf({ id: 'x#3', document: 'x#3' }), 'x#3');
});

test('the cosine of two vectors does not depend on their lengths', () => {
  assert.equal(cosine([3, 4], [6, 8]), 1);
  assert.equal(cosine([1, 0], [0, 5]), 0);
  assert.equal(cosine([1, 0], [-2, 0]), -1);
  assert.equal(cosine([0, 0], [1, 0]), null);
});

test('moves say by how many places a passage went up, and which are new', () => {
  assert.deepEqual([...moves(['a', 'b', 'c'], ['c', 'b', 'd'])], [['c', 2], ['b', 0], ['d', null]]);
});

test('a filter is a JSON object, or its fault is said', () => {
  assert.deepEqual(readFilter(' '), { filter: null, fault: '' });
  assert.deepEqual(readFilter('{}'), { filter: null, fault: '' });
  assert.deepEqual(readFilter('{"year": 2026}'), { filter: { year: 2026 }, fault: '' });
  for (const text of ['{', '[1]', 'null', '7', '"a"']) {
    const { filter, fault } = readFilter(text);
    assert.equal(filter, null);
    assert.match(fault, /JSON/);
  }
});
