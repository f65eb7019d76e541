//! The connections that wait for their next request, and those that are opened ahead of need.
//!
//! Opening one takes two or three times as long as an answer, and a request that had to wait for it would arrive that
//! much later than it started, so closer to those after it. So connections are opened *before* the limiter's gate, and
//! when requests overlap, spare ones are opened before they are asked for: what the gate lets through leaves at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::connect::{BoxError, Connection, Connector};

/// How long an idle connection is kept: shorter than the idle time-outs of usual servers, so that a request hardly
/// ever meets a connection the server is just closing.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// How long opening one ahead may take: a request that waits for it is better sent late than not at all.
const PATIENCE_MAX: Duration = Duration::from_secs(3);

/// How long a connection that was open is taken to be open still: where requests come thick and fast, looking costs.
const OPEN_FOR: Duration = Duration::from_millis(1);

/// The connections to one endpoint; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connector: Connector,
    /// The most that are open at once.
    most: usize,
    /// How long opening one ahead may take, at most [`PATIENCE_MAX`].
    patience: Duration,
    state: Mutex<State>,
    /// One was opened or given back, or could not be opened.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first, and the oldest is used next: so all stay in use, and none ages unseen.
    idle: VecDeque<Connection>,
    /// Leases that are out.
    in_use: usize,
    opening: usize,
    /// How many are to be idle or opening at any time, beyond those in use.
    spare: usize,
    /// The latest one could not be opened: until one can, none is opened ahead.
    is_unreachable: bool,
}

/// The right to use a connection for one request; with the connection, if one was to be had.
#[derive(Debug)]
pub struct Lease {
    connection: Option<Connection>,
    connections: Connections,
}

impl Connections {
    /// `time`: what an attempt may take.
    pub fn new(connector: Connector, most: usize, time: Duration) -> Connections {
        let patience = time.min(PATIENCE_MAX);
        Connections {
            shared: Arc::new(Shared {
                connector,
                most,
                patience,
                state: Mutex::default(),
                changed: Notify::new(),
            }),
        }
    }

    /// A lease at once, with a connection if one is idle; otherwise it is opened when the request is sent.
    pub fn lease_now(&self) -> Lease {
        let mut state = self.state();
        state.in_use += 1;
        Lease {
            connection: state.take_idle(),
            connections: self.clone(),
        }
    }

    /// A lease with an open connection; without one only if the endpoint can't be reached.
    pub async fn lease(&self) -> Lease {
        let mut lease = self.lease_now();
        let mut is_first_look = true;
        loop {
            let changed = self.shared.changed.notified();
            {
                let mut state = self.state();
                lease.connection = lease.connection.take().or_else(|| state.take_idle());
                let is_found = lease.connection.is_some();
                if state.is_unreachable {
                    return lease;
                }
                if !is_found && is_first_look && state.in_use > 1 {
                    // Requests overlap, and there was none to spare.
                    state.spare = (state.spare + 1).min(self.shared.most);
                }
                for _ in 0..state.missing(is_found, self.shared.most) {
                    state.opening += 1;
                    tokio::spawn(self.clone().open_ahead());
                }
                if is_found {
                    return lease;
                }
            }
            is_first_look = false;
            changed.await;
        }
    }

    async fn open_ahead(self) {
        let opened = timeout(self.shared.patience, self.shared.connector.connect()).await;
        let mut state = self.state();
        state.opening -= 1;
        match opened {
            Ok(Ok(connection)) => state.idle.push_back(connection),
            Ok(Err(_)) | Err(_) => state.is_unreachable = true,
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Also used while a panic unwinds; nothing leaves it half changed.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many to open, for a lease that has found one or still needs one.
    fn missing(&self, is_found: bool, most: usize) -> usize {
        let needed = usize::from(!is_found);
        let waiting = self.idle.len() + self.opening;
        let room = (most + needed).saturating_sub(self.in_use + waiting);
        self.spare.max(needed).saturating_sub(waiting).min(room)
    }

    /// The oldest idle connection that is still open.
    fn take_idle(&mut self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.pop_front()?;
            if connection.idle_since.elapsed() > IDLE_MAX {
                // Not so many are needed.
                self.spare = self.spare.saturating_sub(1);
            } else if connection.is_open() {
                connection.seen_open = Instant::now();
                return Some(connection);
            } else if !connection.is_used {
                // Opened ahead, and closed by the server before it was needed.
                self.spare = self.spare.saturating_sub(1);
            }
        }
    }
}

impl Lease {
    /// The connection; opens one if there is none, or if it has been closed meanwhile.
    pub(super) async fn connection(&mut self) -> Result<Connection, BoxError> {
        if let Some(mut connection) = self.connection.take()
            && connection.idle_since.elapsed() <= IDLE_MAX
            && (connection.seen_open.elapsed() < OPEN_FOR || connection.is_open())
        {
            return Ok(connection);
        }
        // On the heap, for it is rare, and every row's task would have to have room for it.
        let connection = Box::pin(self.connections.shared.connector.connect()).await?;
        self.connections.state().is_unreachable = false;
        Ok(connection)
    }

    /// Keeps a connection for the next request.
    pub(super) fn give_back(self, connection: Connection) {
        let mut state = self.connections.state();
        if state.idle.len() < self.connections.shared.most {
            state.idle.push_back(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        state.in_use -= 1;
        // Not used after all, because the run stopped.
        state.idle.extend(self.connection.take());
        drop(state);
        self.connections.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Connections to a listener that takes them and says nothing.
    async fn connections(most: usize) -> (Connections, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let connector = Connector::new(&endpoint, None).unwrap();
        (Connections::new(connector, most, PATIENCE), listener)
    }

    async fn accept(listener: &TcpListener) -> TcpStream {
        let accepted = timeout(PATIENCE, listener.accept()).await;
        accepted.expect("a new connection").unwrap().0
    }

    /// A request that was answered: its connection is free again.
    async fn use_once(connections: &Connections) {
        let mut lease = connections.lease().await;
        let connection = lease.connection().await.unwrap();
        lease.give_back(connection);
    }

    impl State {
        fn open(&self) -> usize {
            self.idle.len() + self.opening
        }
    }

    #[tokio::test]
    async fn requests_one_after_the_other_share_one_connection() {
        let (connections, _listener) = connections(64).await;
        for _ in 0..10 {
            use_once(&connections).await;
        }
        let state = connections.state();
        assert_eq!((state.open(), state.spare, state.in_use), (1, 0, 0));
    }

    #[tokio::test]
    async fn when_requests_overlap_one_more_is_opened_before_it_is_asked_for() {
        let (connections, _listener) = connections(64).await;
        let first = connections.lease().await;
        let second = connections.lease().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(connections.state().idle.len(), 1, "the spare one");
        let third = connections.lease().await;
        assert!([&first, &second, &third].iter().all(|lease| lease.connection.is_some()));
        let state = connections.state();
        assert_eq!((state.spare, state.open()), (1, 1), "the next spare one");
        drop(state);
    }

    #[tokio::test]
    async fn there_are_never_more_than_requests_may_be_open() {
        let (connections, _listener) = connections(3).await;
        for _ in 0..5 {
            let leases = [
                connections.lease().await,
                connections.lease().await,
                connections.lease().await,
            ];
            assert_eq!(connections.state().open(), 0);
            drop(leases);
            assert_eq!(connections.state().open(), 3);
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_server_has_closed_is_replaced() {
        let (connections, listener) = connections(1).await;
        use_once(&connections).await;
        drop(accept(&listener).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(connections.lease().await.connection.is_some());
        accept(&listener).await;
    }

    #[tokio::test]
    async fn one_that_was_idle_for_long_is_not_used_again() {
        let (connections, listener) = connections(1).await;
        use_once(&connections).await;
        let _first = accept(&listener).await;
        connections.state().idle[0].idle_since -= IDLE_MAX + Duration::from_millis(1);
        assert!(connections.lease().await.connection.is_some());
        accept(&listener).await;
    }

    #[tokio::test]
    async fn one_that_waited_for_long_in_a_lease_is_not_used_either() {
        let (connections, listener) = connections(1).await;
        let mut lease = connections.lease().await;
        let _first = accept(&listener).await;
        lease.connection.as_mut().unwrap().idle_since -= IDLE_MAX + Duration::from_millis(1);
        lease.connection().await.unwrap();
        accept(&listener).await;
    }

    #[tokio::test]
    async fn calls_without_waiting_share_connections_too() {
        let (connections, _listener) = connections(2).await;
        for _ in 0..10 {
            let mut lease = connections.lease_now();
            let connection = lease.connection().await.unwrap();
            lease.give_back(connection);
        }
        assert_eq!(connections.state().open(), 1);
    }

    #[tokio::test]
    async fn where_nobody_listens_a_lease_comes_at_once_and_connects_when_it_is_used() {
        let (connections, listener) = connections(8).await;
        let address = listener.local_addr().unwrap();
        drop(listener);
        for _ in 0..3 {
            let mut lease = connections.lease().await;
            assert!(lease.connection.is_none());
            assert!(lease.connection().await.is_err());
        }
        let _listener = TcpListener::bind(address).await.unwrap();
        use_once(&connections).await;
        assert!(connections.lease().await.connection.is_some(), "it is back");
    }
}
