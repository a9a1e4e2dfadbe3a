/** Headers of every answer. No CORS header exists here: nothing but our own origin has business with this host. */

/**
 * No `unsafe-*` and no nonce: React and our styles need none, and xterm's style elements are turned into constructed style
 * sheets (app/ui/terminal/styles.ts). `ws:` is spelled because older engines do not count it to 'self'. Trusted Types are
 * required and no policy may be made, so no string can become HTML or script even by mistake.
 */
export function securityHeaders(origin: string): Readonly<Record<string, string>> {
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    `connect-src 'self' ${origin.replace("http:", "ws:")}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ];
  return {
    "Content-Security-Policy": policy.join("; "),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), clipboard-read=()",
    "Cache-Control": "no-store",
  };
}
