/** Ctrl-C and friends, to a command that ends in an order of its own when one comes. */

const NUMBERS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;
export type EndingSignal = keyof typeof NUMBERS;

/** Calls `got` for each, with the status that a shell gives for it. Answers with what calls it off. */
export function onEndingSignal(got: (name: EndingSignal, status: number) => void): () => void {
  const listeners = (Object.keys(NUMBERS) as EndingSignal[]).map((name) => [name, () => got(name, 128 + NUMBERS[name])] as const);
  for (const [name, listener] of listeners) process.on(name, listener);
  return () => {
    for (const [name, listener] of listeners) process.off(name, listener);
  };
}
