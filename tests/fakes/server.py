"""The simulated server of perf/ in a thread of the test's own process, with faults that a test gives it."""

import asyncio
import contextlib
import threading

from tests.fakes import simulated_server

Options, Simulation = simulated_server.Options, simulated_server.Simulation


class Running:
    """A simulation that can be stopped and started again at the same address."""

    def __init__(self, hook=None, **options):
        options = {"median_tokens": 8, **options}
        self.hook, self.options = hook, Options(**options)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.simulation, self.without_info = None, False
        self.start()
        self.url = f"http://127.0.0.1:{self.options.port}"

    def start(self):
        async def start():
            self.simulation = Simulation(self.options, self.hook)
            self.simulation.bodies = []
            if self.without_info:
                self.simulation.info = self.simulation.health
            self.runner = await simulated_server.serve(self.simulation)
            self.options.port = self.runner.addresses[0][1]

        asyncio.run_coroutine_threadsafe(start(), self.loop).result(10)

    def stop(self):
        """As when the process is killed: connections break off."""

        async def stop():
            for connection in list(self.runner.server.connections):
                if connection.transport:
                    connection.transport.abort()
            await self.runner.cleanup()

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result(10)

    @property
    def bodies(self):
        """The generation requests since the start."""
        return self.simulation.bodies

    def close(self):
        with contextlib.suppress(Exception):
            self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)


@contextlib.contextmanager
def simulated(hook=None, **options):
    running = Running(hook, **options)
    try:
        yield running
    finally:
        running.close()


def expected(prompt, seed, number=0, *, max_new_tokens=16, api="tgi", median=8):
    """The text that the simulation gives for the sample `number` of a prompt, as the endpoint asks for it."""
    from selfalign.ids import derived_seed

    asked = derived_seed(seed, number) if api == "tgi" else derived_seed(seed, 0) + number
    length = simulated_server.length_of(prompt, asked, max_new_tokens, median)
    return "".join(simulated_server.words_of(prompt, asked, length))
