"""The Celery application: what it accepts, how long it may take, and where it runs."""

from celery import Celery

from worker.jobs import ABANDONED_AFTER
from worker.settings import current

app = Celery("videomind", broker=current().broker_url, include=["worker.tasks"])
app.conf.update(
    # Without a broker a task runs where it is sent, and its errors belong to the sender.
    task_always_eager=current().broker_url is None,
    task_eager_propagates=True,
    # Messages come from outside: a pickle would be somebody else's code.
    task_serializer="json",
    accept_content=["json"],
    # Results are rows. A second copy in a result backend could only disagree.
    task_ignore_result=True,
    # Acknowledged when done, so that a killed child's message is delivered again. The claim in SQL
    # makes a second delivery harmless.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # A worker that holds messages in reserve keeps them from idle ones.
    worker_prefetch_multiplier=1,
    # A forked child cannot use CUDA, nor torch's threads.
    worker_pool_start_method="spawn",
    # Spawned children import torch before they report in.
    worker_proc_alive_timeout=120,
    # What runs for longer is taken for abandoned by the store, so it must be gone by then.
    task_time_limit=ABANDONED_AFTER.total_seconds(),
    # Redis delivers again what is not acknowledged in time: never before the task's own limit.
    broker_transport_options={"visibility_timeout": 2 * ABANDONED_AFTER.total_seconds()},
    broker_connection_retry_on_startup=True,
)
