/** Files on their way: checked, sent a few at a time, then followed until they are stored or refused. Knows no page. */

// Of one page; the gateway takes 8 of a tenant.
const MOST_AT_ONCE = 3;
// Sends of one file, where the gateway was full or away.
const MOST_SENDS = 30;
const AGAIN_SECONDS = 2;
const LOOK_MS = 1000;
const PASSING = [0, 429, 503];
/** States of a file, in the order in which it goes through them; `failed` and `dead` have a reason. */
export const STATES = ['queued', 'sending', 'waiting', 'running', 'done', 'dead', 'failed', 'cancelled'];
const ENDED = new Set(['done', 'dead', 'failed', 'cancelled']);

/**
 * @typedef {{file: File, name: string, collection: string, state: string, sent: number, job: string, reason: string, sends: number,
 *   isPausing: boolean}} Item sent: bytes. isPausing: it waits to be sent again
 */

/** Files that were dropped, in order. */
export class Uploads {
  /** @type {Item[]} */
  items = [];
  #sending = 0;
  #ask;
  #signal;
  #onChange;
  #isFollowing = false;

  /**
   * @param {{limits: {upload_bytes?: number}, suffixes: string[], signal: AbortSignal, onChange: () => void,
   *   send: (item: Item, onProgress: (sent: number) => void) => Promise<string>, look: (items: Item[]) => Promise<Map<string, {state: string, error: string|null}>>,
   *   pause?: (ms: number) => Promise<void>}} ask send: gives the job's id; look: what became of jobs, by id, as
   *   far as one round of questions tells; send may raise an ApiError
   */
  constructor({ limits, suffixes, signal, onChange, send, look, pause = wait }) {
    this.#ask = { limits, suffixes, send, look, pause };
    this.#signal = signal;
    this.#onChange = onChange;
    signal.addEventListener('abort', () => this.stop(), { once: true });
  }

  /** @param {{file: File, name: string, fault?: string}[]} files fault: why it cannot be read @param {string} collection where they go */
  add(files, collection) {
    for (const { file, name, fault } of files) {
      const reason = fault || this.#whyNot(file, name);
      this.items.push({ file, name, collection, state: reason ? 'failed' : 'queued', sent: 0, job: '', reason, sends: 0, isPausing: false });
    }
    this.#onChange();
    this.#next();
  }

  /** @returns {boolean} whether any file is still to be sent, or sent again */
  canStop() {
    return this.items.some(({ state, isPausing }) => state === 'queued' || isPausing);
  }

  /** Send no more of those that were not sent. What was sent is indexed all the same. */
  stop() {
    for (const item of this.items) {
      if (item.state === 'queued' || item.isPausing) this.#end(item, 'cancelled', 'stopped before it was sent');
    }
    this.#onChange();
  }

  /** Forget those that have ended. */
  clear() {
    this.items = this.items.filter(({ state }) => !ENDED.has(state));
    this.#onChange();
  }

  /** @returns {Object<string, number>} how many files are in each state */
  counts() {
    const counts = Object.fromEntries(STATES.map((state) => [state, 0]));
    for (const { state } of this.items) counts[state] += 1;
    return counts;
  }

  #whyNot(file, name) {
    const { limits, suffixes } = this.#ask;
    const dot = name.lastIndexOf('.');
    const suffix = dot > name.lastIndexOf('/') ? name.slice(dot).toLowerCase() : '';
    if (suffixes.length && suffix && !suffixes.includes(suffix)) return `no kind of file that is read: ${suffixes.join(', ')} are`;
    if (file.size === 0) return 'the file is empty';
    if (limits.upload_bytes && file.size > limits.upload_bytes) return `larger than ${limits.upload_bytes} bytes, the limit upload_bytes`;
    return '';
  }

  #next() {
    while (this.#sending < MOST_AT_ONCE && !this.#signal.aborted) {
      const item = this.items.find(({ state }) => state === 'queued');
      if (!item) return;
      this.#sending += 1;
      item.state = 'sending';
      this.#send(item).finally(() => {
        this.#sending -= 1;
        this.#onChange();
        this.#next();
      });
    }
  }

  async #send(item) {
    for (;;) {
      try {
        item.sends += 1;
        item.job = await this.#ask.send(item, (sent) => {
          item.sent = sent;
          this.#onChange();
        });
        item.state = 'waiting';
        item.reason = '';
        this.#follow();
        return;
      } catch (error) {
        if (this.#signal.aborted) return;
        if (!PASSING.includes(error?.status) || item.sends >= MOST_SENDS) {
          this.#end(item, 'failed', error?.message ?? String(error));
          return;
        }
        item.sent = 0;
        item.reason = `${error.message}; trying again`;
        this.#onChange();
        item.isPausing = true;
        await this.#ask.pause(1000 * (error.retryAfter ?? AGAIN_SECONDS));
        item.isPausing = false;
        // Stopped meanwhile.
        if (item.state !== 'sending') return;
      }
    }
  }

  /** Ask after the jobs until all have ended. */
  async #follow() {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    try {
      while (!this.#signal.aborted) {
        const open = this.items.filter(({ state }) => state === 'waiting' || state === 'running');
        if (!open.length) return;
        await this.#look(open);
        this.#onChange();
        await this.#ask.pause(LOOK_MS);
      }
    } finally {
      this.#isFollowing = false;
    }
  }

  async #look(items) {
    const found = await this.#ask.look(items);
    for (const item of items) {
      const job = found.get(item.job);
      if (job) this.#end(item, job.state, job.error ?? '');
    }
  }

  #end(item, state, reason) {
    item.state = state;
    item.reason = reason;
    item.isPausing = false;
  }
}

/**
 * Items to show where there are many: those that move, then those that failed, then the newest of the others.
 * @param {Item[]} items @param {number} most
 * @returns {Item[]}
 */
export function choose(items, most) {
  const rank = ({ state }) => (['sending', 'running', 'waiting'].includes(state) ? 0 : ['failed', 'dead'].includes(state) ? 1 : state === 'queued' ? 2 : 3);
  const placed = items.map((item, at) => [item, at]);
  placed.sort(([one, first], [other, second]) => rank(one) - rank(other) || (rank(one) === 3 ? second - first : first - second));
  return placed.slice(0, most).map(([item]) => item);
}

/**
 * The files of a drop, folders with all below them; a file in a folder is named by its path.
 * @param {DataTransfer} transfer
 * @returns {Promise<{file: File, name: string, fault?: string}[]>} fault: why the browser cannot read it
 */
export async function filesOf(transfer) {
  // Entries are gone once this function gives way: they are taken first.
  const entries = Array.from(transfer.items ?? [], (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return Array.from(transfer.files, (file) => ({ file, name: file.name }));
  const found = [];
  for (const entry of entries) await tryWalk(entry, found);
  return found;
}

/** One that cannot be read, such as a file that is gone by now, is told beside the others, and stops none of them. */
async function tryWalk(entry, found) {
  try {
    await walk(entry, found);
  } catch (error) {
    found.push({ file: new File([], entry.name), name: (entry.fullPath ?? entry.name).replace(/^\//, ''), fault: `it cannot be read: ${error?.message ?? error}` });
  }
}

async function walk(entry, found) {
  // As trireme ingest does: hidden files are left out.
  if (entry.name.startsWith('.')) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, name: entry.fullPath.replace(/^\//, '') });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A reader gives some at a time, and none at the end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await tryWalk(one, found);
  }
}

function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
