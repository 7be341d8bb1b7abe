"""The sample through a real Spark Structured Streaming watermark, to check the simulation.

    python bench/late_data_spark.py DELIVERY --json FILE

Runs in an environment of its own that has PySpark and Java 17 (1.1 GB); nothing else here
needs it. The query is the usual one: five-minute windows by organisation, service and region
behind ``withWatermark``, in update mode, written over what was there by key. ``backlog``
reads the files as fast as it can, ``paced`` lets the query come to rest after each trigger.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

SCHEMA = (
    "event_id STRING, timestamp STRING, org_id STRING, service STRING, region STRING, "
    "cost_usd_increment DECIMAL(38,9)"
)
KEYS = ("window_start", "org_id", "service", "region")


def session(folder: Path) -> Any:
    """Start Spark on this machine, quiet, two cores, UTC."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def place(file: Path, folder: Path, number: int) -> None:
    """Copy ``file`` in; Spark takes files in the order of their times."""
    part = folder / f".{file.name}.part"
    shutil.copyfile(file, part)
    os.utime(part, (1_750_000_000 + number, 1_750_000_000 + number))
    part.rename(folder / file.name)


def windows(spark: Any, landing: Path, delay: str, per_trigger: int) -> Any:
    """Return the streaming query: charges by five-minute window behind a watermark."""
    from pyspark.sql import functions as sql

    events = (
        spark.readStream.schema(SCHEMA)
        .option("maxFilesPerTrigger", per_trigger)
        .json(str(landing / "*"))
        .withColumn("event_ts", sql.to_timestamp("timestamp"))
        .withWatermark("event_ts", delay)
    )
    return (
        events.groupBy(sql.window("event_ts", "5 minutes"), "org_id", "service", "region")
        .agg(
            sql.count(sql.lit(1)).alias("events"),
            sql.sum("cost_usd_increment").cast("decimal(38,9)").alias("cost_usd"),
        )
        .withColumn("window_start", sql.col("window.start"))
    )


def streamed(
    spark: Any, files: list[Path], folder: Path, delay: str, per_trigger: int, *, paced: bool
) -> dict[str, object]:
    """Return events and USD in the mart after ``files`` went through the query."""
    landing = folder / "landing"
    landing.mkdir()
    mart: dict[tuple[object, ...], tuple[int, Decimal]] = {}

    def upsert(rows: Any, _: int) -> None:
        for row in rows.collect():
            mart[tuple(row[key] for key in KEYS)] = (row["events"], row["cost_usd"] or Decimal(0))

    query = (
        windows(spark, landing, delay, per_trigger)
        .writeStream.outputMode("update")
        .foreachBatch(upsert)
        .option("checkpointLocation", str(folder / "checkpoint"))
    )
    if paced:
        running = query.start()
        for start in range(0, len(files), per_trigger):
            deliver(files[start : start + per_trigger], landing, start)
            running.processAllAvailable()
        running.stop()
    else:
        deliver(files, landing, 0)
        query.trigger(availableNow=True).start().awaitTermination()
    return {
        "events": sum(count for count, _ in mart.values()),
        "usd": str(sum((usd for _, usd in mart.values()), Decimal(0)).normalize()),
    }


def deliver(files: list[Path], landing: Path, first: int) -> None:
    """Put files into ``landing``, all at once: a glance in between would split a trigger."""
    waiting = landing.with_name("waiting")
    waiting.mkdir()
    for number, file in enumerate(files, first):
        place(file, waiting, number)
    waiting.rename(landing / f"from-{first:04d}")


def main() -> None:
    """Run the settings asked for and write what came out, with Spark's version."""
    parser = argparse.ArgumentParser()
    parser.add_argument("delivery", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--delay", action="append")
    parser.add_argument("--files", type=int, action="append")
    parser.add_argument("--pace", action="append")
    given = parser.parse_args()
    files = sorted((given.delivery / "usage_events_stream").glob("*.jsonl"))
    found = []
    with tempfile.TemporaryDirectory(prefix="meterhouse-spark-") as name:
        spark = session(Path(name))
        for delay in given.delay or ["10 minutes", "2 days"]:
            for per_trigger in given.files or [1, 5, 120]:
                for pace in given.pace or ["backlog", "paced"]:
                    folder = Path(name) / f"{delay}-{per_trigger}-{pace}".replace(" ", "-")
                    folder.mkdir()
                    told = streamed(spark, files, folder, delay, per_trigger, paced=pace == "paced")
                    found.append({"delay": delay, "files": per_trigger, "pace": pace, **told})
                    print(json.dumps(found[-1]), flush=True)
        version = spark.version
        spark.stop()
    given.json.write_text(json.dumps({"spark": version, "runs": found}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
