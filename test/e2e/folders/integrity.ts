/** Two sides change one file in turns, each reading what the other left: stale or torn data shows as another hash. */
import { expect } from "vitest";
import type { Steps } from "../../harness/index.ts";

const change = `
import random
def content(n): return random.Random(n).randbytes(random.Random(-n).randrange(0, 40000))
def change(n):
    kind = n % 4
    if kind == 0: write("together", content(n))                                  # cut and written anew
    elif kind == 1: write("together.new", content(n)); os.replace("together.new", "together")
    elif kind == 2:                                                              # grown
        with open("together", "ab") as f: f.write(content(n))
    else:                                                                        # cut in the middle
        os.truncate("together", os.path.getsize("together") // 2)
def digest():
    with open("together", "rb") as f: data = f.read()
    assert len(data) == os.path.getsize("together"), "the size is not that of the content"
    return hashlib.sha256(data).hexdigest()
def held_digest():
    held.seek(0); return hashlib.sha256(held.read()).hexdigest()
`;

/** @param rounds each is a change by one side that the other side reads, once through a file that it held open meanwhile */
export async function changeTogether(guest: Steps, host: Steps, rounds: number): Promise<void> {
  for (const side of [guest, host]) await side.do(change);
  await host.do("change(0)");
  for (let n = 1; n <= rounds; n++) {
    const [writer, reader] = n % 2 === 0 ? [guest, host] : [host, guest];
    await reader.do(`held = open("together", "rb", buffering=0); held.read()`);
    const written = await writer.do(`change(${(n * 2654435761) % 1000003}); result = digest()`);
    const inPlace = ((n * 2654435761) % 1000003) % 4 !== 1;
    const seen = await reader.do(`result = digest(), held_digest(); held.close()`);
    expect(seen, `round ${n}`).toEqual([written, inPlace ? written : (seen as string[])[1]]);
  }
}
