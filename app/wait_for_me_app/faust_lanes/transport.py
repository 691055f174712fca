"""A Faust transport that delivers one message per run: all waiting records of one partition at once.

Consumer._drain_messages                        faust/transport/consumer.py:1170
    delivers one message a record, with four tasks each; drops fetched records when the live set of active partitions becomes empty
Consumer._new_offset                            faust/transport/consumer.py:1097
    fills gaps in the offsets with acknowledgements that nobody gave
Consumer.perform_seek                           faust/transport/consumer.py:565
    goes to the committed offset; a lane goes on at its watermark
AIOKafkaConsumerThread.verify_event_path        faust/transport/drivers/aiokafka.py:827
    reports partitions as stuck by counting messages
AIOKafkaConsumerThread._create_worker_consumer  faust/transport/drivers/aiokafka.py:568
    makes what fetches; here it is a member of the group and nothing more
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import aiokafka  # type: ignore[import-untyped]
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage

from wait_for_me_app.faust_lanes.fetch import FetchThread
from wait_for_me_app.faust_lanes.intake import Intake
from wait_for_me_app.faust_lanes.messages import Fetched

log = logging.getLogger(__name__)


class MemberThread(driver.AIOKafkaConsumerThread):
    """Keeps this worker a member of its group and commits offsets; fetching is not its business."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # aiokafka leaves the group when nobody polls; the fetch thread polls instead, and the watchdog guards the loop.
        consumer._max_poll_interval_ms = float("inf")
        return consumer

    async def hush(self) -> None:
        """Stop the member from prefetching what it has just been assigned."""
        await self.call_thread(self._hush)

    async def _hush(self) -> None:
        consumer = self._ensure_consumer()
        consumer.pause(*consumer.assignment())

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say nothing: progress is judged by lanes, which know what is waiting."""


class LaneConsumer(driver.Consumer):
    """Feeds lanes; acknowledgements come a run at a time and in order."""

    fetch_properties: ClassVar[Mapping[str, Any]] = {}
    commands_topic: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.intakes: dict[int, Intake] = {}
        self._epoch = 0
        self._fetch: FetchThread | None = None
        self._rings: set[asyncio.Task[None]] = set()

    def _new_consumer_thread(self) -> MemberThread:
        return MemberThread(self, loop=self.loop, beacon=self.beacon)

    # -- lanes open and close

    async def open_intakes(self, positions: Mapping[int, int]) -> None:
        """Begin to deliver these partitions, each from the offset given."""
        await self._thread.hush()  # type: ignore[attr-defined]  # MemberThread, see _new_consumer_thread
        self.close_intakes()
        self._epoch += 1  # the fetch thread may have followed the closing already, and follows a number once
        self.intakes = {partition: Intake(offset) for partition, offset in positions.items()}
        self._tell_who_wants_more()  # everybody
        self._fetch_thread().assign(self._epoch, positions)

    def close_intakes(self) -> None:
        """Deliver nothing more; what is waiting is forgotten and will be read again by whoever takes the lane over."""
        self._epoch += 1
        self.intakes = {}
        if self._fetch is not None:
            self._fetch.assign(self._epoch, {})

    def stop_flow(self) -> None:
        """Stop deliveries together with Faust's flow: a rebalance or the end has begun."""
        self.close_intakes()
        super().stop_flow()

    async def on_stop(self) -> None:
        """End the fetch thread after the last run has been acknowledged."""
        await super().on_stop()
        if self._fetch is not None:
            fetch, self._fetch = self._fetch, None
            await asyncio.to_thread(fetch.stop)

    # -- records come in, runs go out

    async def _drain_messages(self, fetcher: Any) -> None:
        """Wait for the end: records come from the fetch thread."""
        await fetcher._stopped.wait()

    async def perform_seek(self) -> None:
        """Do nothing: a lane's position is its watermark, set when the lane is taken over."""

    def run_is_done(self, partition: int) -> None:
        """Note that a lane's run is safe, and deliver the next one."""
        intake = self.intakes.get(partition)
        if intake is not None:
            intake.run_is_done()
            self._ring(partition, intake)
            self._tell_who_wants_more()

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        offset = max(acked) + 1
        acked.clear()
        self._acked_index[tp].clear()
        return offset

    def _offer(self, epoch: int, fetched: Fetched) -> None:
        if epoch != self._epoch:
            return  # read for lanes that have been given up meanwhile
        try:
            for partition, (records, sizes) in fetched.items():
                intake = self.intakes[partition]
                intake.offer(records, sizes)
                self._ring(partition, intake)
        except Exception as error:  # noqa: BLE001  # called by the loop, which would only log it
            self._on_fetch_failure(error)
        self._tell_who_wants_more()

    def _tell_who_wants_more(self) -> None:
        if self._fetch is not None:
            full = frozenset(partition for partition, intake in self.intakes.items() if intake.is_full)
            self._fetch.order(full, any(intake.is_hungry for intake in self.intakes.values()))

    def _ring(self, partition: int, intake: Intake) -> None:
        run = intake.take_run()
        if not run:
            return
        last = run[-1]
        value: Any = run
        message = ConsumerMessage(
            self.commands_topic,
            partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            None,
            None,
            value,
            None,
            0,
            0,
            TP(self.commands_topic, partition),
            generation_id=self.app.consumer_generation_id,
        )
        task = self.loop.create_task(self._deliver(message))
        self._rings.add(task)
        task.add_done_callback(self._rings.discard)

    async def _deliver(self, message: ConsumerMessage) -> None:
        await self.callback(message)

    def _fetch_thread(self) -> FetchThread:
        if self._fetch is None:
            self._fetch = FetchThread(
                self.fetch_properties,
                self.commands_topic,
                loop=asyncio.get_running_loop(),
                on_fetched=self._offer,
                on_failure=self._on_fetch_failure,
            )
            self._fetch.start()
        return self._fetch

    def _on_fetch_failure(self, error: BaseException) -> None:
        app: Any = self.app  # a LaneApp
        app.lanes.fail(error)


class LaneTransport(driver.Transport):
    """Faust's Kafka transport with a consumer that feeds lanes."""

    Consumer: ClassVar[type[LaneConsumer]] = LaneConsumer
