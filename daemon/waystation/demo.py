"""The whole story, once, on a folder as the origin: publish, serve, fetch, run, lose the origin, fetch again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from waystation.config import ENV_PREFIX, load_settings
from waystation.errors import DaemonError
from waystation.model import short_digest
from waystation.publish import machine_arch, open_publisher
from waystation.publish.stanza import artifact_stanza, mirror_base

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from waystation.publish import Published

_PATIENCE_S = 60.0
"""How long a step may wait for a program, the daemon or the user's own."""
_STOP_S = 10.0
_LOOK_AGAIN_S = 0.02
_CHUNK_BYTES = 1024 * 1024
_WORTH_A_RATE_BYTES = 1024 * 1024
_TITLE_WIDTH = 56
_INDENT = " " * 6
_NARROWEST = 40
_WHOLE_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_BUNDLE = re.compile(r"([a-z0-9][a-z0-9-]*?)-([0-9][A-Za-z0-9._+~]*)-([a-z0-9_]+)")
_HELLO = '#!/bin/sh\necho "hello from a file that came through a Waystation mirror"\n'
_ADVICE = "With --app, it must be an executable that needs no arguments; otherwise please report this."


async def run(app: Path | None = None, *, as_json: bool = False) -> None:
    """Tell the story with an executable, or with a small script of its own, and leave nothing behind.

    An executable that answers HTTP on the port in the variable ``PORT`` is asked for its page; any
    other one must end with status 0. Cancelled, it stops what it started and removes its folder.

    Raises:
        WaystationError: a step failed.
    """
    teller = _Teller(as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="waystation-demo-") as folder:
        await _Story(Path(folder), teller).tell(app)
    teller.end()


def laid_out(note: str, width: int | None) -> list[str]:
    """Lay out a line that stands below a step; a terminal gets it broken to fit, with its digests cut."""
    if width is None:
        return [f"{_INDENT}{note}".rstrip()]
    cut = _WHOLE_DIGEST.sub(lambda found: f"{short_digest(found[0])}…", note)
    beginning = _INDENT + " " * (len(note) - len(note.lstrip()))
    return wrap(
        cut.strip(),
        max(width, _NARROWEST),
        initial_indent=beginning,
        subsequent_indent=f"{beginning}  ",
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


class _Teller:
    """Prints each step with its time: coloured on a terminal, plain in a pipe, or as lines of JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._count = 0

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Time what happens within; the lines put into the list are shown below the title."""
        notes: list[str] = []
        began = time.monotonic()
        if self._as_json or not self._console.is_terminal:
            yield notes
        else:
            with self._console.status(title):
                yield notes
        self._show(title, time.monotonic() - began, notes)

    def end(self) -> None:
        """Say how long it all took."""
        self._show("the end: nothing runs any more, the folder is gone", time.monotonic() - self._began, [])

    def _show(self, title: str, seconds: float, notes: list[str]) -> None:
        self._count += 1
        if self._as_json:
            self._console.out(json.dumps({"step": self._count, "title": title, "seconds": seconds, "notes": notes}))
            return
        head = (f"{self._count:2}  ", "dim"), (f"{title:<{_TITLE_WIDTH}}", "bold"), (f"{seconds:8.3f} s", "cyan")
        self._console.print(Text.assemble(*head))
        width = self._console.width if self._console.is_terminal else None
        for note in notes:
            for line in laid_out(note, width):
                self._console.print(Text(line, style="dim"))


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What the story publishes, fetches and runs."""

    file: Path
    app: str
    version: str
    arch: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a client saw of one response."""

    status: int
    retry_after: str | None
    body: bytes


class _Program:
    """A program that the story started, and what it wrote."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def said(self) -> list[str]:
        """What it wrote, in lines."""
        return self._log.read_text(errors="replace").splitlines()

    async def ended(self) -> None:
        """Wait for its end; a status that is not 0 is a failure."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._process.wait()
        except TimeoutError:
            self.fail(f"did not end within {_PATIENCE_S:.0f} s")
        if self.exit_status:
            self.fail(f"ended with status {self.exit_status}")

    async def stop(self) -> None:
        """End it, by force where it does not listen; nothing to do where it has ended."""
        if self.exit_status is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:  # also where the waiting is cancelled
            if self.exit_status is None:
                self._process.kill()
                await self._process.wait()

    def fail(self, what: str) -> NoReturn:
        """Raise, with what it said last."""
        words = " | ".join(self.said()[-3:]) or "it said nothing"
        raise DaemonError(f"{self._name} {what}: {words}", advice=_ADVICE)


class _Story:
    """One telling, in one temporary folder."""

    def __init__(self, folder: Path, teller: _Teller) -> None:
        self._folder = folder
        self._step = teller.step
        self._origin = folder / "origin"
        self._fetched = folder / "fetched"
        self._config = folder / "waystation.toml"
        self._base = f"http://127.0.0.1:{_free_port()}"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}

    async def tell(self, app: Path | None) -> None:
        """Tell it from the first step to the last."""
        bundle = self._prepare(app)
        published = await self._publish(bundle)
        async with AsyncExitStack() as stack:
            with self._step("start the daemon, until it is ready") as notes:
                daemon = await stack.enter_async_context(self._verb("serve"))
                if await self._first_answer(daemon, f"{self._base}/readyz") is None:
                    daemon.fail(f"ended with status {daemon.exit_status}")
                notes.extend(self._config.read_text().splitlines())
            file = self._fetched / bundle.file.name
            await self._fetch("fetch it through the mirror, cold", published, file)
            await self._fetch("fetch it again, warm", published, file)
            await self._run_fetched(file)
            with self._step("take the origin away"):
                self._origin.rename(self._folder / "origin-away")
            await self._fetch("fetch it without the origin", published, file)
            await self._ask_for_unknown(bundle)
            await self._show_status()
            with self._step("stop the daemon"):
                await daemon.stop()
                await daemon.ended()

    def _prepare(self, app: Path | None) -> _Bundle:
        """Lay out the folder: origin, configuration, and the script where no executable was given."""
        self._origin.mkdir()
        self._fetched.mkdir()
        self._config.write_text(
            f"[origin]\nurl = {json.dumps(self._origin.as_uri())}\n"
            f"[mirror]\nlisten = [{json.dumps(self._base)}]\n"
            f"[store]\npath = {json.dumps(str(self._folder / 'store'))}\nmin_free = 0\n"
            f"[admin]\nsocket = {json.dumps(str(self._folder / 'admin.sock'))}\n"
        )
        if app is None:
            app = self._folder / "built" / f"hello-0.1.0-{machine_arch()}"
            app.parent.mkdir()
            app.write_text(_HELLO)
        match = _BUNDLE.fullmatch(app.name)
        return _Bundle(app, *match.groups()) if match else _Bundle(app, "demo", "0.1.0", machine_arch())

    async def _publish(self, bundle: _Bundle) -> Published:
        with self._step(f"publish {bundle.file.name}") as notes:
            settings = load_settings(self._config, environment={})
            async with open_publisher(settings) as publisher:
                published = await publisher.publish(
                    bundle.file, app=bundle.app, version=bundle.version, arch=bundle.arch
                )
            notes.append(f"{published.target}, {decimal(published.size_bytes)}; a job fetches it with this stanza:")
            notes.extend(artifact_stanza(published.target, published.digest, base=mirror_base(self._base)).splitlines())
        return published

    async def _fetch(self, title: str, published: Published, file: Path) -> None:
        with self._step(title) as notes:
            began = time.monotonic()
            digest = await asyncio.to_thread(_download, f"{self._base}/artifacts/{published.target}", file)
            if digest != published.digest:
                raise DaemonError(f"the mirror sent {digest}, not {published.digest}", advice=_ADVICE)
            rate = f", {decimal(int(published.size_bytes / (time.monotonic() - began)))}/s"
            shown = rate if published.size_bytes >= _WORTH_A_RATE_BYTES else ""
            notes.append(f"{decimal(published.size_bytes)}{shown}, the checksum matches")

    async def _run_fetched(self, file: Path) -> None:
        """Run what came, with next to no environment: a bundle needs none."""
        url = f"http://127.0.0.1:{_free_port()}/"
        port = url.strip("/").rpartition(":")[2]
        environment = {"PORT": port, "NOMAD_PORT_http": port, "TMPDIR": str(self._folder)}
        async with AsyncExitStack() as stack:
            with self._step("run it with an empty environment") as notes:
                program = await stack.enter_async_context(self._started(file.name, [str(file)], environment))
                answer = await self._first_answer(program, url)
                if answer is None:
                    await program.ended()
                notes.extend(program.said())
            if answer is not None:
                with self._step("ask for its page") as notes:
                    page = await asyncio.to_thread(_get, url)
                    if page is None:
                        program.fail(f"no longer answers at {url}")
                    notes.append(f"{page.status}: {_first_paragraph(page.body)}")

    async def _ask_for_unknown(self, bundle: _Bundle) -> None:
        name = f"{bundle.app}/{bundle.app}-999-{bundle.arch}"
        with self._step("ask for something new without the origin") as notes:
            answer = await asyncio.to_thread(_get, f"{self._base}/artifacts/{name}")
            if answer is None or answer.status != HTTPStatus.SERVICE_UNAVAILABLE or not answer.retry_after:
                raise DaemonError(f"the mirror did not answer 503 for {name}: {answer}", advice=_ADVICE)
            notes.append(f"503, Retry-After: {answer.retry_after}")
            notes.extend(answer.body.decode(errors="replace").splitlines())

    async def _show_status(self) -> None:
        with self._step("waystation status") as notes:
            async with self._verb("status") as verb:
                await verb.ended()
                notes.extend(verb.said())

    def _verb(self, verb: str) -> AbstractAsyncContextManager[_Program]:
        """Start one of the command line's own verbs, as a user would."""
        command = [sys.executable, "-m", "waystation", verb, "--config", str(self._config)]
        return self._started(f"waystation {verb}", command, self._environment)

    @asynccontextmanager
    async def _started(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> AsyncIterator[_Program]:
        """Start a program that has ended when the block is left."""
        log = self._folder / f"{name.replace(' ', '-')}.log"
        with log.open("wb") as opened:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=opened, stderr=opened
                )
            except OSError as error:
                raise DaemonError(f"{name} can't be run: {error.strerror}", advice=_ADVICE) from error
        program = _Program(name, process, log)
        try:
            yield program
        finally:
            await program.stop()

    async def _first_answer(self, program: _Program, url: str) -> _Answer | None:
        """Ask until a program answers with anything but 503, and not at all once it has ended (None)."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while program.exit_status is None:
                    answer = await asyncio.to_thread(_get, url)
                    if answer is not None and answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                        return answer
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            program.fail(f"neither answered at {url} nor ended within {_PATIENCE_S:.0f} s")
        return None


def _download(url: str, file: Path) -> str:
    """Fetch as Nomad does, one GET into a file that is then executable; return its sha256."""
    digest = sha256()
    try:
        with _direct().open(url, timeout=_PATIENCE_S) as response, file.open("wb") as opened:
            while chunk := response.read(_CHUNK_BYTES):
                digest.update(chunk)
                opened.write(chunk)
    except urllib.error.HTTPError as error:
        words = error.read(200).decode(errors="replace").strip()
        raise DaemonError(f"the mirror answered {error.code}: {words}", advice=_ADVICE) from error
    except (OSError, HTTPException) as error:
        raise DaemonError(f"the mirror did not send all of {url}: {error}", advice=_ADVICE) from error
    file.chmod(0o755)
    return digest.hexdigest()


def _get(url: str) -> _Answer | None:
    """Fetch something small, whatever its status; None where nobody answers."""
    try:
        with _direct().open(url, timeout=_PATIENCE_S) as response:
            return _Answer(response.status, None, response.read())
    except urllib.error.HTTPError as error:
        return _Answer(error.code, error.headers["Retry-After"], error.read())
    except (OSError, HTTPException):
        return None


def _direct() -> urllib.request.OpenerDirector:
    """Pass by any proxy that the environment names: all that is asked is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _first_paragraph(page: bytes) -> str:
    text = page.decode(errors="replace")
    found = re.search(r"<p>(.*?)</p>", text, re.DOTALL)
    return " ".join((found[1] if found else text).split())[:200]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
