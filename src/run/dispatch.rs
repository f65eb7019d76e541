//! From the source to the gate: rows in order, one at a time.

use std::sync::Arc;

use super::source::{Next, Reader};
use super::{MAX_RETRYING, Message, NOT_RUN, Shared, permit_of};
use crate::client::{Item, Service};
use crate::done::Done;
use crate::event::Event;
use crate::row::{Numbered, Outcome, Record};
use crate::rows::{InputErrorKind, Task};
use crate::stop::{Cause, StopReason};

/// What rows from the caller are called in errors.
const PLACE: &str = "rows";

/// Takes rows until the last one, or until the run stops. A row begins when its first request may be tried; a row that is
/// not sent is recorded. `done`: rows that the journal of the run already has.
pub(super) async fn dispatch<S: Service>(mut reader: Reader<S::Item>, done: Done, run: Arc<Shared<S>>) {
    while let Some(next) = reader.next(&run.stop).await {
        match next {
            Next::Task(task) => match unless_done(task, &done) {
                Ok(task) => dispatch_one(task, &run).await,
                Err(changed) => return run.stop_for_input(changed),
            },
            Next::End => return,
            Next::Failed(error) => {
                if reader.is_of_caller {
                    run.rows_ended().await;
                }
                return run.stop_for_input(error);
            }
            Next::Panicked(how) if reader.is_of_caller => {
                run.rows_ended().await;
                return run.stop_for_input(format!("the source of the rows {how}").into());
            }
            Next::Panicked(how) => return run.stop.bug("the thread that reads the rows", &how),
        }
    }
    // What was taken from the source counts, though it is not run.
    for task in reader.left_over().await {
        let is_done = matches!(task, Task::AlreadyDone);
        run.tell(if is_done { Event::AlreadyDone(1) } else { NOT_RUN });
    }
}

impl<S: Service> Shared<S> {
    fn stop_for_input(&self, error: Cause) {
        self.stop.drain(StopReason::InputFailed(error));
    }

    /// Waits until every row that has begun has its outcome, or the run stops.
    async fn rows_ended(&self) {
        let all = self.limits.max_in_flight.get() + MAX_RETRYING;
        tokio::select! {
            () = self.stop.stopping() => {}
            _ = self.rows.acquire_many(u32::try_from(all).unwrap_or(u32::MAX)) => {}
        }
    }
}

/// A row that the journal has is done; another row on its line is an error.
fn unless_done<I: Item>(task: Task<I>, done: &Done) -> Result<Task<I>, Cause> {
    let Task::Send(Numbered { line, item }) = &task else {
        return Ok(task);
    };
    let [user, conv, conv_type] = item.key();
    if done.contains(*line, user, conv, conv_type) {
        Ok(Task::AlreadyDone)
    } else if done.contains_line(*line) {
        Err(InputErrorKind::RowChanged.at(PLACE, *line).into())
    } else {
        Ok(task)
    }
}

async fn dispatch_one<S: Service>(task: Task<S::Item>, run: &Arc<Shared<S>>) {
    let record = match task {
        Task::AlreadyDone => return run.tell(Event::AlreadyDone(1)),
        Task::Send(item) => {
            let message = tokio::select! {
                biased;
                begin = begin(item, run) => begin,
                () = run.stop.stopping() => Message::Event(NOT_RUN, None),
            };
            return run.send(message);
        }
        Task::Invalid(row) => Record {
            subject: row.subject,
            ..Record::new(
                row.line,
                [row.user, row.conv, row.conv_type],
                Outcome::Invalid,
                row.error.to_string(),
            )
        },
        Task::Skip { item, first } => Record {
            subject: item.item.subject(),
            ..Record::new(
                item.line,
                item.item.key().map(str::to_owned),
                Outcome::Skipped,
                format!("the same as line {first}"),
            )
        },
    };
    let in_flight = run.in_flight().await;
    run.send(Message::Event(Event::Settled(Box::new(record)), Some(in_flight)));
}

async fn begin<S: Service>(item: Numbered<S::Item>, run: &Shared<S>) -> Message<S::Item> {
    run.breaker.admits_new_rows().await;
    let place = permit_of(&run.rows).await;
    let entry = run.enter(false).await;
    Message::Begin(item, place, entry)
}
