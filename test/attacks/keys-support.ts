/** What the attacks on keys share: a Cloche in an internet of its own, whose origins it trusts, and keys that are canaries. */
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Internet, type OriginOptions, type Seen } from "../doubles/internet.ts";
import { Cloche } from "../harness/index.ts";

export interface Online {
  readonly internet: Internet;
  readonly cloche: Cloche;
  end(): Promise<void>;
}

/** A Cloche that runs inside of an internet with these origins. */
export async function online(origins: readonly OriginOptions[]): Promise<Online> {
  const internet = await Internet.create();
  try {
    for (const origin of origins) await internet.origin(origin);
    const cloche = new Cloche({ inside: (file, args) => internet.command(file, args) });
    mkdirSync(cloche.home, { mode: 0o700 });
    writeFileSync(join(cloche.home, "trusted.pem"), internet.authority);
    return {
      internet,
      cloche,
      end: async () => {
        try {
          await cloche.end();
        } finally {
          await internet.close();
        }
      },
    };
  } catch (error) {
    await internet.close();
    throw error;
  }
}

export const random = (): string => randomBytes(15).toString("hex");
/** A key in which every encoding differs from the plain text. */
export const oddKey = (): string => `k/${random()}+"\\=% ~${random()}`;

/** Values of one header of everything that arrived at an origin. */
export const headerAt = ({ requests }: Seen, origin: string, header: string): string[] =>
  requests
    .filter((request) => request.origin === origin)
    .flatMap(({ rawHeaders }) => rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === header));

/** Everything that arrived anywhere, as one text. */
export const allThatArrived = (seen: Seen): string => JSON.stringify(seen);
