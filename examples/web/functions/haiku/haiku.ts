/** A seed → a haiku, the same one for the same seed. In your app this is the work that costs something. */

const FIRST = [
  "An old silent pond",
  "Light of a low moon",
  "The first winter rain",
  "Over the dark hills",
  "Snow on the train tracks",
];
const SECOND = [
  "a bicycle leans, waiting",
  "somebody counts the sparrows",
  "the kettle begins to sing",
  "and all the lamps remember",
  "a letter crosses the sea",
];
const THIRD = [
  "then the road goes on",
  "nobody looks up",
  "one leaf, and then none",
  "the river says yes",
  "morning pays it back",
];

export function haiku(seed: string): string[] {
  let state = 2166136261; // FNV-1a
  for (const byte of new TextEncoder().encode(seed)) {
    state = Math.imul(state ^ byte, 16777619) >>> 0;
  }
  return [FIRST, SECOND, THIRD].map((lines, part) =>
    lines[Math.floor(state / lines.length ** part) % lines.length]
  );
}
