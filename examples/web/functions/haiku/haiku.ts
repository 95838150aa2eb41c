/** A seed and a number of lines → a haiku or a tanka, the same one for the same seed. In your app this is the work that costs something. */

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

const FOURTH = [
  "the cups are still warm",
  "a door somewhere is open",
  "and the dog asleep",
  "the clock has not been wound",
  "under the one star",
];
const FIFTH = [
  "nothing is missing tonight",
  "tomorrow can wait for us",
  "the letters answer themselves",
  "all who come are at home",
  "the snow keeps its own accounts",
];
const LINES = [FIRST, SECOND, THIRD, FOURTH, FIFTH];

export function haiku(seed: string, lines: number): string[] {
  let state = 2166136261; // FNV-1a
  for (const byte of new TextEncoder().encode(seed)) {
    state = Math.imul(state ^ byte, 16777619) >>> 0;
  }
  return LINES.slice(0, lines).map((choice, part) =>
    choice[Math.floor(state / choice.length ** part) % choice.length]
  );
}
