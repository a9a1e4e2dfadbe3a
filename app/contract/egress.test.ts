import { expect, it } from "vitest";
import { keeperProtocol } from "./methods.ts";
import { pageKeeperRequests } from "./web.ts";

const shown = { decision: "allow", host: "api.example.com", methods: ["GET"], paths: ["/v1/things"] };

for (const [who, { params }] of [
  ["the keeper", keeperProtocol.requests["asks.answer"]],
  ["the web host", pageKeeperRequests["asks.answer"]],
] as const) {
  it(`an answer has the rule that was shown: without one ${who} refuses it, as the guest could choose the rule; with one it is taken`, () => {
    for (const answer of ["allow", "deny"]) {
      expect(params.safeParse({ ask: "a1", answer, scope: "task" }).success, answer).toBe(false);
      expect(params.safeParse({ ask: "a1", answer, scope: "task", rule: {} }).success, answer).toBe(false);
      expect(params.parse({ ask: "a1", answer, scope: "task", rule: shown }), answer).toMatchObject({ answer, rule: shown });
    }
  });
}
