/** The one answer for a guest that does not answer, whichever of its services was asked. */
import { ProblemError } from "../../contract/index.ts";

export const guestSilent = (message: string, evidence?: string) =>
  new ProblemError({
    code: "guest.silent",
    message,
    ...(evidence === undefined ? {} : { evidence }),
    next: ["Look at `cloche logs TASK --console`.", "Stop the task: `cloche stop TASK` works even when the guest hangs."],
  });
