-- Extensions: pgmq, the queue between the receiver and the worker.
--
-- Any pgmq from 1.5.0 on will do: hosted projects ship 1.5.1, newer ones are a superset of what is used here.
-- No version is asked for by name, because hosted projects may refuse one.

create extension if not exists pgmq;

do $$
declare
    v_version text := (select extversion from pg_catalog.pg_extension where extname = 'pgmq');
begin
    if pg_catalog.string_to_array(v_version, '.')::int[] < array[1, 5, 0] then
        raise exception 'pgmq % is too old, 1.5.0 or newer is needed', v_version
            using hint = 'Upgrade the project''s Postgres in the Supabase dashboard, then push the migrations again.';
    end if;
end
$$;
