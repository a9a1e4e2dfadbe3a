/** First import of the page: tells zod not to compile its checks with `new Function`, which the page's policy forbids. */
import { z } from "zod";

z.config({ jitless: true });
