//! A lane: workers that send, and the loop that writes down what they say, on one thread.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::queue::Queue;
use super::{MIN_UNDER_WAY, Shared, attempts};
use crate::client::Service;
use crate::event::Event;

/// Events that are written with one `write`.
const EVENTS_AT_ONCE: usize = 256;

/// A request's slot among those that may be open. A row that got its outcome keeps it until that is written: so no more
/// rows than may be in flight can be answered and have no record, whenever the process ends.
pub(super) type Slot = OwnedSemaphorePermit;

/// What the workers of a lane share.
pub(super) struct Lane<S> {
    pub shared: Arc<Shared>,
    pub service: S,
    pub queue: Queue,
    /// Requests that may be open.
    pub slots: Arc<Semaphore>,
    /// Bounded by the slots, which are free again only when a row's outcome is written, and by what is read ahead.
    events: UnboundedSender<Message>,
}

/// An event on its way to the report.
struct Message {
    event: Event,
    _slot: Option<Slot>,
}

/// A lane that has not begun.
pub(super) struct Idle<S> {
    lane: Lane<S>,
    workers: usize,
    events: UnboundedReceiver<Message>,
}

/// A lane for each service; they divide what may be in flight among themselves.
pub(super) fn split<S>(services: Vec<S>, shared: &Arc<Shared>) -> Vec<Idle<S>> {
    let lanes = services.len();
    let share = |whole: usize, index: usize| (whole + index) / lanes;
    let in_flight = shared.limits.max_in_flight;
    let services = services.into_iter().enumerate();
    let idle = services.map(|(index, service)| {
        let workers = share(in_flight.max(MIN_UNDER_WAY), index);
        let (events, received) = mpsc::unbounded_channel();
        Idle {
            lane: Lane {
                shared: Arc::clone(shared),
                service,
                queue: Queue::default(),
                slots: Arc::new(Semaphore::new(share(in_flight, index))),
                events,
            },
            workers,
            events: received,
        }
    });
    idle.collect()
}

impl<S: Service> Idle<S> {
    /// Works until the last row, or until a stop; completes when all is written down.
    pub async fn run(mut self) {
        let shared = Arc::clone(&self.lane.shared);
        let lane = Arc::new(self.lane);
        for _ in 0..self.workers {
            tokio::spawn(attempts::work(Arc::clone(&lane)));
        }
        drop(lane);
        let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
        while self.events.recv_many(&mut batch, EVENTS_AT_ONCE).await > 0 {
            shared
                .books()
                .write(batch.iter().map(|message| &message.event), &shared);
            batch.clear();
        }
    }
}

/// Runs a lane on a thread of its own; what is given back completes when it has ended.
pub(super) fn on_a_thread<S: Service>(idle: Idle<S>) -> io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("lane".into()).spawn(move || {
        runtime.block_on(idle.run());
        // Nobody waits if the run has been dropped.
        let _ = ended.send(());
    })?;
    Ok(end)
}

impl<S> Lane<S> {
    /// Tells the report; with the row's slot if it is free only when this is written.
    pub fn tell(&self, event: Event, slot: Option<Slot>) {
        let message = Message { event, _slot: slot };
        // The loop that receives ends only after all senders.
        let _ = self.events.send(message);
    }

    /// Waits for a slot.
    pub async fn slot(&self) -> Slot {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.expect("nobody closes the semaphore")
    }
}
