"""Jobs side by side: on this machine's cores, or on an existing dask.distributed cluster.

SUBLIMINAL_SCHEDULER names the scheduler of a cluster, such as tcp://10.0.0.1:8786. Its workers need
this package, the data and the store's folder at the same paths. Nothing else changes: the same jobs
run there and write to the same store.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

from sublearn.core import machine

CONNECT = 10  # seconds that a scheduler may take to answer
REPORT = 0.5  # seconds between two reports of a job's steps


class ClusterError(RuntimeError):
    """A cluster cannot be used, said in one sentence with its cure."""


def parallel_map(function: Callable, items: Sequence, **bar_options) -> list:
    """Results of function(item, on_step) on every item, in order.

    bar_options: total and title of the progress bar, see `machine.parallel_map`. On a cluster a
    worker that dies costs only its job, which another worker takes over.
    Errors: ClusterError where the cluster does not answer, goes away or differs from this machine.
    """
    address = os.environ.get("SUBLIMINAL_SCHEDULER")
    if not address or not items:
        return machine.parallel_map(function, items, **bar_options)
    with connection(address) as client, machine.progress(**bar_options) as bar:
        topic = f"steps of {uuid4()}"
        client.subscribe_topic(topic, lambda event: bar.update(event[1]))
        here = machine.hardware()
        job = partial(run_on_worker, function=function, topic=topic, hardware=here)
        futures = client.map(job, items, pure=False)
        try:
            return client.gather(futures)
        finally:
            client.cancel(futures)


@contextmanager
def connection(address: str) -> Iterator:
    """A client of the scheduler at an address, whose failures are said in one sentence."""
    from distributed import Client, KilledWorker

    unset = "or unset SUBLIMINAL_SCHEDULER"
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        message = f"no dask scheduler answers at {address}: start one, {unset}"
        raise ClusterError(message) from error
    try:
        yield client
    except KilledWorker as error:
        cause = "the usual cause is too little memory on the workers"
        raise ClusterError(f"one job ended several workers at {address}: {cause}") from error
    except (CancelledError, OSError) as error:
        kept = "what was finished is stored"
        message = f"the dask scheduler at {address} went away; {kept}: run again, {unset}"
        raise ClusterError(message) from error
    finally:
        client.close(timeout=1)


def run_on_worker(item, *, function: Callable, topic: str, hardware: str):
    """The function's result on an item, by one thread, its steps reported to the client."""
    import torch

    here = machine.hardware()
    if here != hardware:
        cure = "set SUBLIMINAL_PRECISION to one number type on both"
        raise ClusterError(f"a worker computes on {here}, this machine on {hardware}: {cure}")
    torch.set_num_threads(1)
    report = StepReport(topic)
    result = function(item, report)
    report.send()
    return result


class StepReport:
    """Counts the steps of a job on its worker, and sends the count now and then."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.steps = 0
        self.sent = time.monotonic()

    def __call__(self) -> None:
        """Count a step."""
        self.steps += 1
        if time.monotonic() - self.sent > REPORT:
            self.send()

    def send(self) -> None:
        """Send the steps that were counted since the last time."""
        from distributed import get_worker

        get_worker().log_event(self.topic, self.steps)
        self.steps = 0
        self.sent = time.monotonic()
