/** Mermaid diagrams, a JSON array on standard input → what Mermaid's own parser says of each: null, or the error. */

import { parseHTML } from "npm:linkedom@0.18.12";

// Some of its grammars want a document to clean labels with.
const { window, document } = parseHTML("<html><body></body></html>");
Object.assign(globalThis, { window, document });
const { default: mermaid } = await import("npm:mermaid@11.17.2");

const diagrams = await new Response(Deno.stdin.readable).json();
const answers = [];
for (const diagram of diagrams) {
  answers.push(
    await mermaid.parse(diagram).then(() => null, (error) => error.message),
  );
}
console.log(JSON.stringify(answers));
