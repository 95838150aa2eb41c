/** A step of the database's → the calls of Stripe that it names, step by step, until there is a result.
 * The format is described in supabase/schemas/60_checkout/15_stripe_steps.sql. */

import Stripe from "stripe";
import type { Database } from "./database.ts";
import { judged, refusal } from "./refusals.ts";

export interface Call {
  method: "get" | "post";
  path: string;
  params: Record<string, unknown>;
  idempotency_key: string | null;
  find: Record<string, string> | null;
  keep: string[];
}

type Answer =
  | { body: Record<string, unknown> | null }
  | { error: Record<string, unknown>; idempotency_key: string | null };

export type Step<Done> =
  | { done: Done }
  | { refused: { code: string; message: string } }
  | { livemode: boolean; calls: Call[]; state: unknown; is_last: boolean };

/** Carries out steps, from the first one to the result. Errors: HttpError for what the database refuses. */
export type CarryOut<Done> = (first: Step<Done>) => Promise<Done>;

type Continue<Done> = (
  state: unknown,
  answers: Answer[],
) => Promise<Step<Done>>;

// More than any flow needs, so that a bug cannot loop forever.
const STEPS_MAX = 50;

/** `name`: the function that takes the answers. */
export function continuer<Done>(
  database: Database,
  name: "continue_checkout" | "continue_portal" | "continue_payment_link",
): Continue<Done> {
  return async (state, answers) => {
    const [row] = await judged(
      database.run((sql) =>
        sql<[{ step: Step<Done> }]>`select billing.${sql(name)}(
          state => ${JSON.stringify(state)}::text::jsonb,
          answers => ${JSON.stringify(answers)}::text::jsonb) as step`
      ),
    );
    return row.step;
  };
}

export function carrier<Done>(
  next: Continue<Done>,
  stripe: (livemode: boolean) => Stripe,
): CarryOut<Done> {
  return async (first) => {
    let step = first;
    for (let count = 0; count < STEPS_MAX; count++) {
      if ("done" in step) return step.done;
      if ("refused" in step) throw refusal(step.refused);
      const answers = await makeCalls(stripe(step.livemode), step.calls);
      const last = answers.at(-1);
      if (step.is_last && last && "body" in last) return last.body as Done;
      step = await next(step.state, answers);
    }
    throw new Error(`There was no result after ${STEPS_MAX} steps.`);
  };
}

/** In their order, up to the first that fails or finds what it looks for. */
async function makeCalls(stripe: Stripe, calls: Call[]): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (const call of calls) {
    const answer = await makeCall(stripe, call);
    answers.push(answer);
    if ("error" in answer || call.find && answer.body) break;
  }
  return answers;
}

async function makeCall(stripe: Stripe, call: Call): Promise<Answer> {
  const { idempotency_key, keep } = call;
  try {
    const answer = await send(stripe, call);
    const body = call.find ? found(answer, call.find) : answer;
    if (body && keep.some((name) => !(name in body))) {
      throw new Stripe.errors.StripeAPIError(
        { message: `Stripe's answer to ${call.path} is none` } as never,
      );
    }
    return {
      body: body && Object.fromEntries(keep.map((name) => [name, body[name]])),
    };
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    return { error: reported(error), idempotency_key };
  }
}

type Json = Record<string, unknown>;

/** The library sends form-encoded parameters by POST only; those of a GET belong to the path. */
async function send(stripe: Stripe, call: Call): Promise<Json> {
  const { method, path, params, idempotency_key } = call;
  const answer = method === "get"
    ? await stripe.rawRequest("GET", withQuery(path, params))
    : await stripe.rawRequest("POST", path, params, {
      idempotencyKey: idempotency_key ?? undefined,
    });
  return answer as unknown as Json;
}

function withQuery(path: string, params: Json): string {
  const query = new URLSearchParams(params as Record<string, string>);
  return query.size > 0 ? `${path}?${query}` : path;
}

function found(list: Json, metadata: Record<string, string>): Json | null {
  const objects = list.data as { metadata?: Record<string, string> }[];
  return objects.find((object) =>
    Object.entries(metadata).every(([name, value]) =>
      object.metadata?.[name] === value
    )
  ) ?? null;
}

function reported(error: Stripe.errors.StripeError): Json {
  const { statusCode, rawType, code, param, message } = error;
  return {
    status: statusCode ?? null,
    type: rawType ?? null,
    code: code ?? null,
    param: param ?? null,
    message,
  };
}
