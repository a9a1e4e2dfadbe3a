import { expect, it } from "vitest";
import { Looks, MAX_LOOKS } from "./looks.ts";

const at = (path: string) => Buffer.from(path);

it("a look that is not answered is given up; the place is refused at once until it has answered, and others are looked at", async () => {
  const looks = new Looks(50);
  const answer = Promise.withResolvers<string>();
  let asked = 0;
  const stuck = () => {
    asked++;
    return answer.promise;
  };
  await expect(looks.at(at("/drive/a"), "a", stuck)).rejects.toThrow("does not answer");
  for (let n = 0; n < 3; n++) await expect(looks.at(at("/drive/a"), "a", stuck)).rejects.toThrow("does not answer");
  expect(asked).toBe(1);
  expect(await looks.at(at("/disk/b"), "b", async () => "seen")).toBe("seen");
  answer.resolve("late");
  await new Promise((resolve) => setImmediate(resolve));
  expect(await looks.at(at("/drive/a"), "a", stuck)).toBe("late");
});

it("there are never more of them than leave threads for the rest, however many are asked for; each that ends lets one in", async () => {
  const looks = new Looks(50);
  const ends: (() => void)[] = [];
  let [open, most] = [0, 0];
  const look = async () => {
    most = Math.max(most, ++open);
    await new Promise<void>((resolve) => ends.push(resolve));
    open--;
  };
  const many = Array.from({ length: 3 * MAX_LOOKS }, (_, n) => looks.at(at(`/${n}`), String(n), look));
  const settled = Promise.allSettled(many);
  for (let n = 0; n < many.length; n++) {
    await new Promise((resolve) => setImmediate(resolve));
    ends.shift()?.();
  }
  expect((await settled).map(({ status }) => status)).toEqual(many.map(() => "fulfilled"));
  expect(most).toBe(MAX_LOOKS);
});

it("what was asked for while all of them stand still is refused in time, and is no place that does not answer", async () => {
  const looks = new Looks(50);
  const answer = Promise.withResolvers<void>();
  const stuck = Promise.allSettled(Array.from({ length: MAX_LOOKS }, (_, n) => looks.at(at(`/${n}`), String(n), () => answer.promise)));
  let asked = 0;
  const fine = async () => ++asked;
  await expect(looks.at(at("/fine"), "fine", fine)).rejects.toThrow("does not answer");
  await stuck;
  expect(asked).toBe(0);
  const again = looks.at(at("/fine"), "fine", fine);
  answer.resolve();
  expect(await again).toBeGreaterThan(0);
});
