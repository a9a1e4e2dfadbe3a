import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Internet } from "../../doubles/internet.ts";

/** That the fixture sees what arrives: without it, an empty log would prove nothing. */
describe("the internet of the egress suites", () => {
  let internet: Internet;
  const curl = (...args: string[]) => internet.run("curl", ["-s", "--max-time", "10", ...args]);

  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: "api.fixture.example" });
    await internet.origin({ name: "six.fixture.example", address: "2606:2800:221::10" });
    await internet.origin({ name: "metadata.fixture.example", address: "169.254.169.254" });
  });
  afterAll(() => internet.close());

  it("logs names, connections and requests of a program that runs inside, over IPv4 and IPv6, and also at addresses that the product refuses", async () => {
    for (const host of ["api", "six", "metadata"]) {
      expect(curl(`http://${host}.fixture.example/x?y`)).toContain('"target":"/x?y"');
    }
    const { requests, connections, queries } = await internet.seen();
    expect(requests.map(({ origin, target }) => [origin, target])).toEqual(
      ["api", "six", "metadata"].map((host) => [`${host}.fixture.example`, "/x?y"]),
    );
    expect(connections).toHaveLength(3);
    expect(queries).toContainEqual({ name: "six.fixture.example", type: "AAAA" });
    expect(() => curl("http://absent.fixture.example/")).toThrow();
  });
});
