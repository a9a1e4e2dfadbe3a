/** The control connection to the agent in the guest. Everything that it says is a claim. */
import type { Socket } from "node:net";
import type { z } from "zod";
import { AGENT_PROTOCOL, type AgentHello, agent, errorData } from "../../../helpers/contract/protocol.ts";
import { ProblemError, RpcError, RpcPeer } from "../../contract/index.ts";
import { socketTransport } from "../../contract/node/index.ts";
import { guestSilent } from "./silent.ts";

type AgentRequests = (typeof agent)["requests"];
type AgentMethod = keyof AgentRequests & string;

export interface AgentEvents {
  onLog(line: { level: "info" | "warning" | "error"; message: string }): void;
  onClose(reason: string): void;
}

export class Agent {
  readonly #peer: RpcPeer<typeof agent>;
  readonly hello: AgentHello;

  private constructor(peer: RpcPeer<typeof agent>, hello: AgentHello) {
    this.#peer = peer;
    this.hello = hello;
  }

  /** Takes the control stream over and waits for the agent's hello. */
  static async greet(socket: Socket, expected: { image: string }, events: AgentEvents): Promise<Agent> {
    let greeted: (hello: AgentHello) => void = () => {};
    let failed: (error: ProblemError) => void = () => {};
    const hello = new Promise<AgentHello>((resolve, reject) => {
      greeted = resolve;
      failed = reject;
    });
    let seen = false;
    const peer: RpcPeer<typeof agent> = new RpcPeer({
      transport: socketTransport(socket),
      remote: agent,
      notified: {
        hello: (claim) => {
          if (seen) return peer.close("the agent said hello twice");
          seen = true;
          greeted(claim);
        },
        log: (line) => events.onLog(line),
      },
      onClose: (reason) => {
        failed(broken(`The agent in the guest ended the control connection: ${reason}.`));
        events.onClose(reason);
      },
    });
    socket.resume();
    const claim = await hello;
    if (claim.protocol !== AGENT_PROTOCOL || claim.image !== expected.image) {
      peer.close("another version");
      throw broken(
        `The agent in the guest speaks protocol ${claim.protocol} for image ${claim.image.slice(0, 12)}, expected were ${AGENT_PROTOCOL} and ${expected.image.slice(0, 12)}.`,
      );
    }
    return new Agent(peer, claim);
  }

  /** Asks the agent. `deadlineMs` bounds how long a silent guest can hold the caller. */
  async call<M extends AgentMethod>(
    method: M,
    params: z.input<AgentRequests[M]["params"]>,
    deadlineMs: number,
  ): Promise<z.output<AgentRequests[M]["result"]>> {
    let timer: NodeJS.Timeout | undefined;
    const silent = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(guestSilent(`The guest did not answer \`${method}\` within ${deadlineMs / 1000} s.`)), deadlineMs);
    });
    try {
      return await Promise.race([this.#peer.call(method, params as never), silent]);
    } catch (error) {
      throw error instanceof ProblemError ? error : agentProblem(method, error);
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#peer.close();
  }
}

const broken = (message: string) =>
  new ProblemError({ code: "guest.protocol", message, next: ["Stop the task and start it again.", "Run `cloche image verify`."] });

function agentProblem(method: string, error: unknown): ProblemError {
  const data = error instanceof RpcError ? errorData.safeParse(error.data).data : undefined;
  const detail = error instanceof Error ? error.message : String(error);
  const evidence = [detail, data?.evidence, data?.native && `${data.native.domain} ${data.native.code}`]
    .filter(Boolean)
    .join("\n")
    .slice(0, 16_384);
  if (data?.code === "agent.verity") {
    return new ProblemError({
      code: "guest.corrupt-root",
      message: "A part of the guest image does not match its hash, so the guest did not use it.",
      evidence,
      next: ["Run `cloche image verify`.", "Run `npm run image` to build the image again."],
    });
  }
  if (error instanceof RpcError) {
    return new ProblemError({
      code: "guest.agent",
      message: `The agent in the guest could not do \`${method}\`.`,
      evidence,
      next: ["Look at `cloche logs TASK --console`.", "Stop the task and start it again."],
    });
  }
  return broken(`The control connection to the guest ended during \`${method}\`: ${detail}.`);
}
