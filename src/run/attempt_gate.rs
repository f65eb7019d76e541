//! The gate of one attempt, which its request passes with the connection open.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Entry, Shared};
use crate::client::{Gate, Service};
use crate::event::Event;
use crate::sealed::Sealed;

/// Waits for breaker and limiter, and reports the start of the request to the limiter and the loop.
pub(super) struct AttemptGate<'a, S: Service> {
    run: &'a Shared<S>,
    entry: &'a Entry,
    is_retry: bool,
    passage: Mutex<Passage>,
    changed: Notify,
}

/// How far an attempt has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passage {
    /// It has not passed, or its connection was closed, and another one had to be opened.
    Waiting,
    /// It was admitted at this moment, and may start at any time.
    Passed(Instant),
    Started,
}

impl<S: Service> Sealed for AttemptGate<'_, S> {}

impl<S: Service> Gate for AttemptGate<'_, S> {
    async fn pass(&self) {
        self.set(Passage::Waiting);
        let granted = loop {
            self.entry.admission.held().await;
            let granted = self.entry.permit.start().await;
            if self.entry.admission.holds() {
                break granted;
            }
        };
        self.set(Passage::Passed(granted));
    }

    fn started(&self, at: Instant) {
        if let Passage::Passed(granted) = std::mem::replace(&mut *self.passage(), Passage::Started) {
            self.entry.permit.started(granted, at);
        }
        let is_retry = self.is_retry;
        self.run.tell(Event::Sent { at, is_retry });
    }
}

impl<'a, S: Service> AttemptGate<'a, S> {
    pub fn new(run: &'a Shared<S>, entry: &'a Entry, is_retry: bool) -> AttemptGate<'a, S> {
        AttemptGate {
            run,
            entry,
            is_retry,
            passage: Mutex::new(Passage::Waiting),
            changed: Notify::new(),
        }
    }

    fn passage(&self) -> MutexGuard<'_, Passage> {
        self.passage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, passage: Passage) {
        *self.passage() = passage;
        self.changed.notify_waiters();
    }

    /// Completes when the attempt is to be given up. One that has passed is finished, unless the run is aborted.
    pub async fn given_up(&self) {
        self.run.stop.stopping().await;
        let not_passed = async {
            loop {
                let changed = self.changed.notified();
                if *self.passage() == Passage::Waiting {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            () = self.run.stop.aborting() => {}
            () = not_passed => {}
        }
    }
}
