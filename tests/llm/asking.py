"""What the tests here share: prompts, an endpoint that is asked all of them, and what it must answer."""

import asyncio

from aiohttp import web

from selfalign.errors import RowOpen
from selfalign.options import GenerationOptions
from tests.fakes.server import expected

ROWS = 80


def options(*servers, **changes):
    """Options for simulated servers or URLs."""
    urls = tuple(server if isinstance(server, str) else server.url for server in servers)
    return GenerationOptions(endpoint=urls, **{"patience": 5.0, **changes})


def prompt(number):
    return f"prompt {number}: what comes next?"


def ask_all(endpoint, rows=ROWS, width=16, max_new_tokens=16, on_row=None, **more):
    """What each row got from `width` workers; a row that stays open has a RowOpen. `on_row` gets the count so far."""
    got = {}

    async def worker(numbers):
        for number in numbers:
            try:
                answer = await endpoint.generate(prompt(number), max_new_tokens=max_new_tokens, seed=number, **more)
            except RowOpen as error:
                answer = error
            assert number not in got
            got[number] = answer
            if on_row:
                on_row(len(got))

    async def run():
        numbers = iter(range(rows))
        async with endpoint:
            await asyncio.gather(*(worker(numbers) for _ in range(width)))

    asyncio.run(run())
    return got


def assert_all_right(got, rows=ROWS, without=(), **more):
    """Each row but those in `without` got its own text."""
    right = {number: expected(prompt(number), number, **more) for number in range(rows) if number not in without}
    assert {n: getattr(answer, "text", answer) for n, answer in got.items() if n not in without} == right


def open_rows(got):
    return sorted(number for number, answer in got.items() if isinstance(answer, RowOpen))


def samples_of(endpoint, n, text=None, max_new_tokens=16, seed=0, stop=()):
    async def run():
        async with endpoint:
            return await endpoint.sample(text or prompt(0), n, max_new_tokens=max_new_tokens, seed=seed, stop=stop)

    return asyncio.run(run())


def on_every_third(fault):
    """A hook that does `fault` on every third request after the probe's."""

    async def hook(request, body, number):
        return await fault(request) if number > 10 and number % 3 == 0 else None

    return hook


def on_prompt(number, status, error):
    """A hook that answers this prompt with an error."""

    async def hook(request, body, _):
        return web.json_response(error, status=status) if f"prompt {number}:" in str(body) else None

    return hook


def changing(change):
    """A hook that changes what the server is asked for, as for a server that ignores it."""

    async def hook(request, body, number):
        change(body.get("parameters", body))

    return hook
