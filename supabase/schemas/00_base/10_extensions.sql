-- Extensions: pgmq, the queue between the receiver and the worker.
--
-- Any pgmq from 1.5.0 on will do: hosted projects ship 1.5.1, newer ones are a superset of what is used here. The release
-- refuses an older one before it makes anything. No version is named here, because hosted projects may refuse one.

create extension if not exists pgmq;
