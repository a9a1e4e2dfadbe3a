/**
 * First import of the contract: zod must not compile its checks with `new Function`. The page's policy forbids that, and to a short
 * command compiling a schema costs more than all the values it will ever check with it.
 */
import { z } from "zod";

z.config({ jitless: true });
