-- Extensions: pgmq, the queue between the receiver and the worker.
--
-- pgmq 1.5.0 or newer: hosted projects ship 1.5.1, and newer versions keep the functions that are used here. The
-- release refuses an older version before it creates anything. The extension is created without a version, because
-- hosted projects may refuse one.

create extension if not exists pgmq;
