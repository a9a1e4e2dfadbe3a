/** The typed client: every method of the contract as a call, every failure as a ProblemError. */
import { CATALOGUE } from "./catalogue.ts";
import { type KeeperRequests, keeperProtocol, type Method, type Params, type Result } from "./methods.ts";
import { type Problem, ProblemError, problemSchema } from "./problem.ts";
import { type LineTransport, RpcClosed, RpcError, RpcPeer } from "./rpc.ts";
import { CONTRACT_VERSION } from "./version.ts";

export interface Client {
  call<M extends Method>(method: M, params: Params<M>): Promise<Result<M>>;
  close(): void;
  /** resolves when the connection has ended */
  readonly closed: Promise<string>;
}

/** Says hello and answers with a client; a keeper of another contract version is refused here. */
export async function connectClient(transport: LineTransport, kind: "cli" | "web" | "desktop"): Promise<Client> {
  let ended: (reason: string) => void = () => {};
  const closed = new Promise<string>((resolve) => {
    ended = resolve;
  });
  const peer = new RpcPeer({ transport, remote: keeperProtocol, onClose: (reason) => ended(reason) });
  const client: Client = {
    closed,
    close: () => peer.close(),
    async call<M extends Method>(method: M, params: Params<M>): Promise<Result<M>> {
      try {
        return (await peer.call(method, params as never)) as Result<M>;
      } catch (error) {
        throw new ProblemError(asProblem(error));
      }
    },
  };
  const { contract } = await client.call("hello", { contract: CONTRACT_VERSION, client: kind });
  if (contract !== CONTRACT_VERSION) {
    client.close();
    throw new ProblemError({
      code: "contract.version",
      message: `The running keeper speaks contract version ${contract}, this program version ${CONTRACT_VERSION}.`,
      next: ["Stop all tasks with the version that started them, wait a few seconds, then try again."],
    });
  }
  return client;
}

/** What a failed call threw, as the Problem it carried. */
export function asProblem(error: unknown): Problem {
  if (error instanceof RpcError) {
    const problem = problemSchema.safeParse(error.data);
    if (problem.success) return problem.data;
    const code = error.number === -32_601 ? "contract.method" : "contract.params";
    // the schema's own words name the field and its bounds, which is all that whoever typed the value needs
    const typed = code === "contract.params" ? ["If you typed what it names, write that as it says."] : [];
    const message = `${CATALOGUE[code]}: ${error.message}`;
    return { code, message, next: [...typed, "Use the `cloche` and the keeper of one installation."] };
  }
  if (error instanceof RpcClosed) {
    return {
      code: "keeper.lost",
      message: "The connection to the keeper ended. Machines end with the keeper; files in your folders are as the task last wrote them.",
      evidence: error.message,
      next: ["Run `cloche ls` to see what is there; the keeper starts again by itself."],
    };
  }
  throw error;
}

export type { KeeperRequests };
