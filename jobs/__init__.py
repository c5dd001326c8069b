"""Background work as rows of a database: tables, store, queue, worker, and what each job does."""
