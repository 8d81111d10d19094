"""The Celery application: what it accepts, how long it may take, and where it runs."""

from celery import Celery, signals
from kombu import Exchange, Queue

from worker import logs
from worker.settings import current

INGEST, FETCH, ANALYSE, SWEEP = "ingest", "fetch", "analyse", "sweep"

_OLDEST_SWEEP = 600  # seconds; the clocks of two machines may differ by almost as much

_settings = current()

app = Celery("videomind", broker=_settings.broker_url, backend=_settings.result_url, include=["worker.tasks"])
app.conf.update(
    # Each has processes of its own: fetching must not wait behind the model, nor what is submitted and the
    # sweep until a download has ended, nor downloads until all that is submitted is kept.
    task_queues=[Queue(name, Exchange(name), routing_key=name) for name in (INGEST, FETCH, ANALYSE, SWEEP)],
    task_default_queue=INGEST,
    task_routes={
        "videomind.fetch": {"queue": FETCH},
        "videomind.analyse": {"queue": ANALYSE},
        "videomind.sweep": {"queue": SWEEP},
    },
    # Messages come from outside: a pickle would be somebody else's code.
    task_serializer="json",
    accept_content=["json"],
    # Results are rows. What a backend, if there is one, may keep is the ids a producer waits for.
    task_ignore_result=True,
    result_expires=3600,
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
    # All questions on one video are one task. What the time limit ends waits for another try; the hard
    # limit ends even what hangs in C.
    task_soft_time_limit=_settings.task_seconds,
    task_time_limit=_settings.task_seconds + 60,
    # Redis delivers again what is not acknowledged in time: never before the task's own limit.
    broker_transport_options={
        "visibility_timeout": 2 * _settings.task_seconds + 3600,
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
    },
    # The broker may be gone for a while: what was begun goes on, and is written to SQL.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Safe to be sent by any number of beats: a sweep twice does what one does. Those that nobody is there
    # to take must not pile up.
    beat_schedule={
        "sweep": {
            "task": "videomind.sweep",
            "schedule": _settings.sweep_seconds,
            "options": {"expires": _settings.sweep_seconds + _OLDEST_SWEEP},
        }
    },
)


@signals.setup_logging.connect
def _log(**_: object) -> None:
    """Our own log lines instead of Celery's."""
    logs.set_up(_settings.log)
