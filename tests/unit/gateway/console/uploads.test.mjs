import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Uploads, choose, filesOf } from '../../../../src/trireme/gateway/console/static/lib/uploads.js';

const SUFFIXES = ['.md', '.pdf'];

/** A queue over a gateway that `send` and `look` play; whole: resolves once every file has ended. */
function queue({ send = async (item) => `job of ${item.name}`, look = async () => ({ state: 'done', error: null }), lookAll = byOne(look), limits = {} } = {}) {
  const ended = new AbortController();
  let tell;
  const whole = new Promise((resolve) => (tell = resolve));
  const uploads = new Uploads({
    limits,
    suffixes: SUFFIXES,
    signal: ended.signal,
    send,
    look: lookAll,
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    onChange: () => {
      const { queued, sending, waiting, running } = uploads.counts();
      if (queued + sending + waiting + running === 0) tell();
    },
  });
  return { uploads, whole, ended };
}

/** A look at many jobs, by one that tells of one. */
function byOne(look) {
  return async (items) => new Map(await Promise.all(items.map(async ({ job }) => [job, await look(job)])));
}

function files(...names) {
  return names.map((name) => ({ file: { name, size: 9 }, name }));
}

function failing(status, message = 'no', retryAfter = null) {
  return Object.assign(new Error(message), { status, retryAfter });
}

test('files are sent, followed and stored', async () => {
  const states = { 'job of a.md': ['waiting', 'running', 'done'], 'job of b.pdf': ['done'] };
  const { uploads, whole } = queue({ look: async (job) => ({ state: states[job].shift(), error: null }) });
  uploads.add(files('a.md', 'b.pdf'), 'notes');
  await whole;
  assert.deepEqual(uploads.items.map(({ state, collection }) => [state, collection]), [['done', 'notes'], ['done', 'notes']]);
});

test('what nobody reads, what is empty or too large is refused before it is sent', async () => {
  const sent = [];
  const { uploads, whole } = queue({ limits: { upload_bytes: 10 }, send: async ({ name }) => (sent.push(name), 'j') });
  uploads.add([...files('a.exe', 'Makefile', 'b.MD'), { file: { size: 0 }, name: 'c.md' }, { file: { size: 11 }, name: 'd.md' }], 'notes');
  await whole;
  assert.deepEqual(uploads.items.map(({ state }) => state), ['failed', 'done', 'done', 'failed', 'failed']);
  assert.deepEqual(sent, ['Makefile', 'b.MD']);
  assert.match(uploads.items[0].reason, /\.md, \.pdf/);
});

test('no more than three are sent at once', async () => {
  let now = 0;
  let most = 0;
  const send = async () => {
    most = Math.max(most, (now += 1));
    await new Promise((resolve) => setImmediate(resolve));
    now -= 1;
    return 'j';
  };
  const { uploads, whole } = queue({ send });
  uploads.add(files(...Array.from({ length: 20 }, (_, at) => `${at}.md`)), 'notes');
  await whole;
  assert.equal(most, 3);
});

test('a gateway that is full or away is asked again, an error of the file is not', async () => {
  const faults = { 'a.md': [failing(429), failing(503), failing(0)], 'b.pdf': [failing(400, 'not a PDF')] };
  const send = async ({ name }) => {
    const fault = faults[name].shift();
    if (fault) throw fault;
    return 'j';
  };
  const { uploads, whole } = queue({ send });
  uploads.add(files('a.md', 'b.pdf'), 'notes');
  await whole;
  assert.deepEqual(uploads.items.map(({ state, sends, reason }) => [state, sends, reason]), [['done', 4, ''], ['failed', 1, 'not a PDF']]);
});

test('a job that was given up says why, and a look that tells nothing changes nothing', async () => {
  const said = [new Map(), new Map([['j', { state: 'running', error: null }]]), new Map(), new Map([['j', { state: 'dead', error: 'no text' }]])];
  const { uploads, whole } = queue({ send: async () => 'j', lookAll: async () => said.shift() });
  uploads.add(files('a.md'), 'notes');
  await whole;
  assert.deepEqual([uploads.items[0].state, uploads.items[0].reason], ['dead', 'no text']);
});

test('who stops sends no more, and can clear the list of what has ended', async () => {
  const { uploads } = queue({ send: () => new Promise(() => {}) });
  uploads.add(files('a.md', 'b.md', 'c.md', 'd.md', 'e.md'), 'notes');
  uploads.stop();
  assert.deepEqual([uploads.counts().sending, uploads.counts().cancelled], [3, 2]);
  uploads.clear();
  assert.equal(uploads.items.length, 3);
});

test('a page that is left sends no more', () => {
  const { uploads, ended } = queue({ send: () => new Promise(() => {}) });
  uploads.add(files('a.md', 'b.md', 'c.md', 'd.md'), 'notes');
  ended.abort();
  assert.equal(uploads.counts().cancelled, 1);
});

test('of many files those are shown that move, then those that failed', () => {
  const items = ['done', 'queued', 'failed', 'sending', 'done'].map((state, at) => ({ state, at }));
  assert.deepEqual(choose(items, 4).map(({ at }) => at), [3, 2, 1, 4]);
});

test('a folder that is dropped gives its files with their paths, hidden ones left out', async () => {
  const fileOf = (name, fullPath) => ({ name, fullPath, isFile: true, file: (tell) => tell({ name, size: 1 }) });
  const folder = (name, some) => ({ name, isFile: false, createReader: () => ({ readEntries: (tell) => tell(some.splice(0, 2)) }) });
  const tree = folder('notes', [fileOf('a.md', '/notes/a.md'), fileOf('.git', '/notes/.git'), folder('deep', [fileOf('b.md', '/notes/deep/b.md')])]);
  const found = await filesOf({ items: [{ webkitGetAsEntry: () => tree }], files: [] });
  assert.deepEqual(found.map(({ name }) => name), ['notes/a.md', 'notes/deep/b.md']);
});

test('who stops ends those too that wait to be sent again', async () => {
  let go;
  const paused = new Promise((resolve) => (go = resolve));
  const sent = [];
  const ended = new AbortController();
  const send = async ({ name }) => {
    sent.push(name);
    throw failing(429);
  };
  const uploads = new Uploads({ limits: {}, suffixes: SUFFIXES, signal: ended.signal, send, look: async () => new Map(), pause: () => paused, onChange: () => {} });
  uploads.add(files('a.md'), 'notes');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(uploads.canStop(), true);
  uploads.stop();
  assert.equal(uploads.canStop(), false);
  go();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([sent, uploads.items[0].state, uploads.items[0].sends], [['a.md'], 'cancelled', 1]);
});

test('a file of a folder that cannot be read is told, and keeps none of the others', async () => {
  const good = { name: 'a.md', fullPath: '/notes/a.md', isFile: true, file: (tell) => tell({ name: 'a.md', size: 1 }) };
  const gone = { name: 'b.md', fullPath: '/notes/b.md', isFile: true, file: (_, refuse) => refuse(new Error('it is gone')) };
  const some = [gone, good];
  const folder = { name: 'notes', isFile: false, createReader: () => ({ readEntries: (tell) => tell(some.splice(0, 2)) }) };
  const found = await filesOf({ items: [{ webkitGetAsEntry: () => folder }], files: [] });
  assert.deepEqual(found.map(({ name, fault }) => [name, fault]), [['notes/b.md', 'it cannot be read: it is gone'], ['notes/a.md', undefined]]);
  const { uploads, whole } = queue();
  uploads.add(found, 'notes');
  await whole;
  assert.deepEqual(uploads.items.map(({ state, reason }) => [state, reason]), [['failed', 'it cannot be read: it is gone'], ['done', '']]);
});
