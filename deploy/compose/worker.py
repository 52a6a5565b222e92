"""An example: a job each second, written to the database, through any outage."""

import logging

import pymongo.errors
import trio

from moorings import ConnectionManager, ConnectionNotReady

logger = logging.getLogger("worker")


async def main(connections: ConnectionManager) -> None:
    """Work until cancelled; a job that meets an outage is tried again."""
    number = 0
    while True:
        try:
            database = await connections.get_database("jobs")
            with pymongo.timeout(5):
                await database.done.update_one(
                    {"_id": number}, {"$setOnInsert": {"kind": "example"}}, upsert=True
                )
        except (ConnectionNotReady, pymongo.errors.PyMongoError) as error:
            logger.warning("job %d waits: %s", number, type(error).__name__)
        else:
            number += 1
        await trio.sleep(1)
