import { inspect } from "node:util";

/** A key's value. In texts, JSON and the debugger's view it is its name: only `reveal` gives it. */
export class SecretValue {
  readonly #name: string;
  readonly #value: string;

  constructor(name: string, value: string) {
    this.#name = name;
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return `[key ${this.#name}]`;
  }
  toJSON(): string {
    return this.toString();
  }
  [Symbol.toPrimitive](): string {
    return this.toString();
  }
  [inspect.custom](): string {
    return this.toString();
  }
}
