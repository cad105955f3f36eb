"""Spark: each partition goes through a process of asterism, by DataFrame.mapInArrow."""

import os
import sys

import worker
from pyspark.sql import SparkSession


def session(workers):
    """A cluster on this machine; in a real one the session is already there."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    if "SPARK_MASTER" not in os.environ:
        # Spark's own default is the `python3` of the path, which need not have pyarrow.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    master = os.environ.get("SPARK_MASTER", f"local[{workers}]")
    spark = (
        SparkSession.builder.master(master)
        .appName("asterism")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    # The executors import it.
    spark.sparkContext.addPyFile(worker.__file__)
    return spark


def answers(frame, command, added):
    """The frame with the columns that the command adds."""

    def partition(batches):
        from worker import Worker, plain_lists

        process = None
        try:
            for batch in batches:
                process = process or Worker(command, batch.schema)
                yield plain_lists(process.answer(batch))
        finally:
            if process is not None:
                process.close()

    fields = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in frame.schema)
    return frame.mapInArrow(partition, f"{fields}, {added}")


def main():
    options = worker.arguments(__doc__)
    spark = session(options.workers)
    added = worker.ANSWERS if options.run else worker.VECTORS
    if options.self_check:
        table = worker.sample(options.rows)
        # Several partitions a worker, and several batches a partition.
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 100)
        frame = spark.createDataFrame(table).repartition(2 * options.workers)
        found = answers(frame, worker.command(options), added).toArrow()
        worker.compare("spark", found, worker.direct(options, table))
    else:
        frame = spark.read.parquet(options.input)
        answers(frame, worker.command(options), added).write.parquet(options.output)
    spark.stop()


if __name__ == "__main__":
    main()
