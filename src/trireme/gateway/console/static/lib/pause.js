/** Waiting, which ends early where the page is left. */

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>} never rejected: who waits asks the signal
 */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}
