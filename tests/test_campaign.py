"""After minutes of faults, one after the other, under traffic, every counter equals the truth.

`make faults` runs this; CAMPAIGN_SECONDS and CAMPAIGN_SEED change how long, and which schedule.
"""

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pymongo
import pytest

from librechat_exporter import __version__
from tests.campaign import Campaign, complete_scrape, prepared
from tests.conftest import Document
from tests.payers_oracle import PayersOracle
from tools.mongod import Mongod, ReplicaSet


class Proxy:
    """A network that can be cut: between the exporter and MongoDB. mode: pass, drop, delay, or reset."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.mode = "pass"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            pair = (client, server)
            self._pairs.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(source, sink, pair), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with source:
            self._forward(source, sink)
            self._close(pair)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                if self.mode == "reset":
                    break
                if self.mode == "delay":
                    time.sleep(0.3)
                while self.mode == "drop":  # nothing arrives, and nothing says so
                    time.sleep(0.05)
                sink.sendall(data)
        except OSError:
            return  # one of them has gone, or was cut off

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for one in pair:
            try:
                if self.mode == "reset":  # a connection that is broken off, not ended
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def reset(self) -> None:
        self.mode = "reset"
        for pair in list(self._pairs):
            self._close(pair)

    def close(self) -> None:
        self._listener.close()
        self.mode = "pass"
        for pair in list(self._pairs):
            self._close(pair)


class ServerCampaign(Campaign):
    """With a single MongoDB behind a network that can be cut."""

    def __init__(self, folder: Path, mongod: Mongod, proxy: Proxy) -> None:
        self.mongod, self.proxy = mongod, proxy
        client: pymongo.MongoClient[Document] = pymongo.MongoClient(mongod.uri, journal=True, tz_aware=True)
        super().__init__(folder, client, f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true")

    def mongodb_paused(self) -> None:
        with self.writing:
            self.mongod.pause()
            self.wait()
            self.mongod.resume()

    def mongodb_killed(self) -> None:
        with self.writing:
            self.mongod.kill()
            self.wait()
            self.mongod.start()
            self.client.admin.command("ping")

    def fails(self, **how: object) -> None:
        data = {"failCommands": ["aggregate", "find"], "appName": f"librechat-exporter/{__version__}"} | how
        self.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
        self.wait()
        self.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    def errors_injected(self) -> None:
        self.fails(errorCode=self.chance.choice((11600, 91, 50, 241)))

    def delays_injected(self) -> None:
        self.fails(blockConnection=True, blockTimeMS=self.chance.choice((200, 1000, 3000)))

    def network_drops(self) -> None:
        self.network("drop")

    def network_delays(self) -> None:
        self.network("delay")

    def network(self, mode: str) -> None:
        self.proxy.mode = mode
        self.wait()
        self.proxy.mode = "pass"

    def network_resets(self) -> None:
        self.proxy.reset()
        self.wait()
        self.proxy.mode = "pass"

    FAULTS = (
        *Campaign.FAULTS,
        *(mongodb_paused, mongodb_killed, errors_injected, delays_injected),
        *(network_drops, network_delays, network_resets),
    )


class ReplicaSetCampaign(Campaign):
    """With a replica set of three that loses its primary. What a majority has acknowledged is never rolled back."""

    def __init__(self, folder: Path, members: ReplicaSet) -> None:
        self.members = members
        client: pymongo.MongoClient[Document] = pymongo.MongoClient(members.uri, w="majority", tz_aware=True)
        super().__init__(folder, client, members.uri)

    def primary_killed(self) -> None:
        with self.writing:
            killed = self.members.primary()
            killed.kill()
            self.members.primary()
        self.wait()
        killed.start()
        self.members.wait("the member is back", lambda: len(self.members.secondaries()) == 2)

    def secondary_killed(self) -> None:
        killed = self.chance.choice(self.members.secondaries())
        killed.kill()
        self.wait()
        killed.start()
        self.members.wait("the member is back", lambda: len(self.members.secondaries()) == 2)

    def another_elected(self) -> None:
        with self.writing:
            self.members.step_up(self.chance.choice(self.members.secondaries()))
        self.wait()

    FAULTS = (*Campaign.FAULTS, primary_killed, secondary_killed, another_elected)


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    with Mongod() as mongod:
        proxy = Proxy(mongod.port)
        one = ServerCampaign(tmp_path, mongod, proxy)
        with prepared(one):
            yield one
        proxy.close()


@pytest.mark.slow
def test_every_counter_equals_the_truth_after_all_of_it(campaign: Campaign) -> None:
    campaign.go_on()


@pytest.mark.slow
def test_every_counter_equals_the_truth_after_fail_overs(tmp_path: Path) -> None:
    with ReplicaSet() as members:
        one = ReplicaSetCampaign(tmp_path, members)
        with prepared(one):
            one.go_on()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "gone"])
def test_a_damaged_state_starts_afresh_from_what_is_stored(campaign: Campaign, damage: str) -> None:
    complete_scrape(campaign.exporter)
    for _ in range(20):
        campaign.simulator.chat()
    campaign.simulator.delete_chat()
    complete_scrape(campaign.exporter)
    campaign.exporter.stop(signal.SIGKILL)
    path = campaign.exporter.folder / "ledger.sqlite"
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(os.urandom(len(content)))
    elif damage == "empty":
        path.write_bytes(b"")
    for other in campaign.exporter.folder.glob("ledger.sqlite*"):
        if damage == "gone" or other != path:
            other.unlink()
    campaign.exporter.start()
    values = complete_scrape(campaign.exporter)
    documents = {
        name: list(campaign.database[name].find()) for name in ("messages", "conversations", "users", "agents")
    }
    truth = PayersOracle(documents, datetime.now(UTC), kinds=()).values
    for name in ("librechat_messages_total", "librechat_output_tokens_total", "librechat_conversations_total"):
        assert values[name, ()] == truth[name, ()]
