/**
 * Finds any of a set of byte patterns in a stream, in time that grows with the stream's length alone (Aho and Corasick's automaton, its
 * transitions kept sparse so that long keys in many encodings stay small). It knows after every byte how much of the end may yet become a match.
 */
export class Patterns {
  /** state → byte → state, the first child inline; the others of the few states that branch in a map */
  readonly #childByte: number[] = [-1];
  readonly #child: number[] = [0];
  readonly #more = new Map<number, Map<number, number>>();
  readonly #fail: number[] = [0];
  readonly #depth: number[] = [0];
  /** length and number of the longest pattern that ends in a state, 0 where none does */
  readonly #length: number[] = [0];
  readonly #pattern: number[] = [-1];
  readonly #first = new Uint32Array(256);

  constructor(patterns: readonly Buffer[]) {
    patterns.forEach((pattern, number) => {
      if (pattern.length > 0) this.#add(pattern, number);
    });
    this.#link();
  }

  #add(pattern: Buffer, number: number): void {
    let state = 0;
    for (const byte of pattern) {
      const next = this.#next(state, byte);
      state = next === 0 ? this.#grow(state, byte) : next;
    }
    this.#length[state] = pattern.length;
    this.#pattern[state] = number;
  }

  #grow(state: number, byte: number): number {
    const made = this.#depth.length;
    this.#depth.push((this.#depth[state] ?? 0) + 1);
    this.#childByte.push(-1);
    this.#child.push(0);
    this.#fail.push(0);
    this.#length.push(0);
    this.#pattern.push(-1);
    if (state === 0) this.#first[byte] = made;
    else if (this.#childByte[state] === -1) {
      this.#childByte[state] = byte;
      this.#child[state] = made;
    } else {
      const more = this.#more.get(state) ?? new Map<number, number>();
      more.set(byte, made);
      this.#more.set(state, more);
    }
    return made;
  }

  /** The child of a state, 0 where it has none for that byte. */
  #next(state: number, byte: number): number {
    if (state === 0) return this.#first[byte] ?? 0;
    if (this.#childByte[state] === byte) return this.#child[state] ?? 0;
    return this.#more.size === 0 ? 0 : (this.#more.get(state)?.get(byte) ?? 0);
  }

  /** States were made parents first within each pattern only: links are set by depth. */
  #link(): void {
    const order = Array.from(this.#depth.keys()).sort((a, b) => (this.#depth[a] ?? 0) - (this.#depth[b] ?? 0));
    for (const state of order) {
      for (const [byte, child] of this.#children(state)) {
        const fail = state === 0 ? 0 : this.step(this.#fail[state] ?? 0, byte);
        this.#fail[child] = fail;
        if (this.#length[child] === 0) {
          this.#length[child] = this.#length[fail] ?? 0;
          this.#pattern[child] = this.#pattern[fail] ?? -1;
        }
      }
    }
  }

  *#children(state: number): Generator<[byte: number, child: number]> {
    if (state === 0) {
      for (let byte = 0; byte < 256; byte++) if (this.#first[byte] !== 0) yield [byte, this.#first[byte] ?? 0];
      return;
    }
    if (this.#childByte[state] !== -1) yield [this.#childByte[state] ?? 0, this.#child[state] ?? 0];
    yield* this.#more.get(state) ?? [];
  }

  step(from: number, byte: number): number {
    let state = from;
    for (;;) {
      const next = this.#next(state, byte);
      if (next !== 0 || state === 0) return next;
      state = this.#fail[state] ?? 0;
    }
  }

  /**
   * Reads on from a state and calls `found` after each byte that ends a pattern, with the longest such; `found` says from which state
   * to go on. Answers the state at the end.
   */
  scan(from: number, bytes: Uint8Array, found: (end: number, length: number, pattern: number, state: number) => number): number {
    let state = from;
    const first = this.#first;
    const size = bytes.length;
    for (let at = 0; at < size; at++) {
      const byte = bytes[at] ?? 0;
      state = state === 0 ? (first[byte] ?? 0) : this.step(state, byte);
      if (state === 0) continue;
      const length = this.#length[state] ?? 0;
      if (length !== 0) state = found(at + 1, length, this.#pattern[state] ?? -1, state);
    }
    return state;
  }

  /** How many of the last bytes may be the beginning of a match. */
  depth(state: number): number {
    return this.#depth[state] ?? 0;
  }
}
