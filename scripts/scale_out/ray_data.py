"""Ray Data: batches go through actors, each of which holds a process of asterism."""

import contextlib
import os

import pyarrow as pa
import ray
import worker


class Answers:
    """An actor; its process lives as long as it does."""

    def __init__(self, command):
        self.command = command
        self.worker = None

    def __call__(self, table):
        batches = table.combine_chunks().to_batches()
        if not batches:
            # Ray asks with an empty table for the columns.
            batches = [pa.RecordBatch.from_pylist([], schema=table.schema)]
        if self.worker is None:
            self.worker = worker.Worker(self.command, table.schema)
        return pa.Table.from_batches([self.worker.answer(batch) for batch in batches])

    def __del__(self):
        if self.worker is not None:
            # Ray may have killed the process of an actor it has no more work for; every batch it was
            # given is answered by then.
            with contextlib.suppress(RuntimeError):
                self.worker.close()


def answers(data, command, workers, batch_size):
    """The data with the columns that the command adds."""
    return data.map_batches(
        Answers,
        fn_constructor_args=[command],
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )


def main():
    options = worker.arguments(__doc__)
    folder = os.path.dirname(os.path.abspath(__file__))
    ray.init(
        # An actor keeps one as long as it lives; reading and writing need another.
        num_cpus=options.workers + 1,
        include_dashboard=False,
        # The actors import `worker`.
        runtime_env={"env_vars": {"PYTHONPATH": folder}},
    )
    if options.self_check:
        table = worker.sample(options.rows)
        data = ray.data.from_arrow(table).repartition(2 * options.workers)
        found = answers(data, worker.command(options), options.workers, 100)
        found = pa.concat_tables(ray.get(found.to_arrow_refs()))
        worker.compare("ray", found, worker.direct(options, table))
    else:
        data = ray.data.read_parquet(options.input)
        answers(data, worker.command(options), options.workers, 8192).write_parquet(options.output)
    ray.shutdown()


if __name__ == "__main__":
    main()
