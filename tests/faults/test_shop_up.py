"""`shop up` itself is killed, or told to end, while the shop is called."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from cli.topology import free_port
from tests.faults.inside import audit, connected, skus
from tests.faults.traffic import Additions, calling
from tests.shop import gone, running
from tests.visitors import Visitor, answered, visiting

# What calls may be told whose service is just ending.
STOPPING = {"DEPENDENCY_UNAVAILABLE", "INTERRUPTED"}


async def test_killed_and_started_again_it_has_everything(tmp_path: Path) -> None:
    async with running(tmp_path, "--port", "0") as up, visiting(up) as shop:
        additions = Additions(shop)
        processes = up.processes()
        assert len(processes) > 4
        async with calling(additions, at_once=4) as writes:
            await writes.more(40)
            up.process.kill()
            assert await gone(processes) == []
        assert writes.reasons <= {"no answer", "DEPENDENCY_UNAVAILABLE", "INTERRUPTED"}
        edge, old = shop.ready.edge, shop.staff

    # On ports of its own choice this time, of which one is taken.
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 2))
        taken.listen()
        async with running(tmp_path, "--port", str(port)) as up, visiting(up) as shop:
            assert shop.ready.edge == f"http://127.0.0.1:{port}" != edge
            other = shop.ready.services["catalog"].partition(":")[2]
            assert f"Port {port + 2} is taken: catalog listens on {other}." in up.text()

            # What was acknowledged is there, and so are people, their sessions and the keys.
            async with connected(shop) as database:
                assert additions.acknowledged <= await skus(database)
                assert await audit(database) == []
            known = Visitor(shop.http, old.token)
            assert answered(await known.get("/api/users/me/"))["id"] == old.id
            body = {"refresh_token": old.refresh_token}
            answered(await shop.nobody.post("/api/auth/refresh/", body))

            # Asked to end, it answers the calls that it has, or says that it cannot.
            processes = up.processes()
            async with calling(lambda: shop.nobody.get("/api/products/", page_size=1)) as reads:
                await reads.more(20)
                up.process.send_signal(signal.SIGTERM)
                assert await up.ended() == 0
            assert reads.reasons <= {"no answer", *STOPPING}
            assert await gone(processes, 0) == []
