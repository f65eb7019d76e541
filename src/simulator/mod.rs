//! ZIM on 127.0.0.1: an HTTP server that keeps the documented rules of `ClearConversationUnread`.
//!
//! It is what the tests, the examples, the benches and simulated runs run against, and what other programs can be pointed
//! at. It shares no code with the client, so that it notices what the client gets wrong: it decodes the query, computes
//! the signature and counts the requests by its own reading of ZEGO's documents.
//!
//! # One request's way
//! 1. It is *on its way* for up to [`Options::arrival_jitter`].
//! 2. During an [`Outage`] that is the end of it.
//! 3. The common parameters are checked: present, of the right format, of the app that exists, at most 10 minutes old or
//!    early, correctly signed, for an Action that exists. Each violation has its documented code.
//! 4. The [cap](Options::cap) lets it through, or it is answered with code 7.
//! 5. It may meet a fault: [`Options::reset_rate`], [`Options::limited_rate`], [`Options::error_rate`].
//! 6. The business parameters are checked, and the [`World`] is asked. After a clear the unread count is 0.
//! 7. The answer goes out after [`Options::latency`] and up to [`Options::jitter`] more.
//!
//! Every answer with a code is JSON, `{"Code":0,"Message":"success","RequestId":"343649807833778783"}`, with HTTP status
//! 200 but for a wrong path or method.
//!
//! # Where ZEGO's documents are silent
//! What the simulator does there is a choice, not a promise of ZEGO's:
//! - *The order of the checks* is the one above. The codes for what is empty or malformed come before those for what is
//!   wrong, a wrong time before a wrong signature.
//! - *What counts against the cap:* correctly signed requests that were let through, whatever becomes of them. Refused
//!   ones don't, and badly signed ones don't: nobody should be able to use up the quota of an app whose secret they
//!   don't know.
//! - *How a second is counted:* as strictly as can be; see [`Options::cap`].
//! - *Code 2* (input parameter error) answers a query string that can't be decoded, any parameter given twice, and a
//!   `SignatureNonce` that isn't 16 lower-case hex digits. Unknown parameters are ignored. A nonce may be used again.
//! - *A missing parameter* is an empty one. A missing `AppId` is one of a wrong format, 100000001.
//! - *Numbers* are decimal, without sign or leading zeros. `Timestamp` is compared in whole seconds: 600 off is right, 601
//!   is not.
//! - *A path other than `/`* is HTTP 404, *a method other than GET* HTTP 405, both with code 100000000.
//! - *A `ConvId` over 32 bytes* is 660000002 (there is a code of its own only for user IDs, 660000012). Which characters
//!   an ID is made of is not checked, but for UTF-8.
//! - *An unknown peer or group* is, like any conversation that doesn't exist, 660800002.
//! - *Events* are written for clears that changed something: exactly one per conversation that had unread messages,
//!   however often it is cleared.

mod cap;
mod clock;
mod codes;
mod events;
mod faults;
mod options;
mod query;
mod rules;
mod service;
mod tally;
mod world;
mod world_csv;

pub use options::{Options, Outage, OutageKind};
pub use tally::Stats;
pub use world::World;
pub use world_csv::WorldError;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use service::Service;
use std::io::{self, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long connections get to end after the last answer can have gone out.
const GRACE: Duration = Duration::from_millis(500);

/// How long to wait after a connection could not be accepted, and how often in a row that may be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_FAILURES: u32 = 100;

/// Serves until `stop` completes, lets open requests have their answers, and returns what it has seen.
///
/// Give it a listener on a loopback address: this is no server for a network. Nothing a client sends makes it panic or
/// stop; what is not HTTP ends its connection.
///
/// With `events`, each clear that found unread messages writes what the user's clients would be told as one line of
/// JSON, flushed at once:
/// `{"event":"conversationChanged","user":"alice","conv":"#team","type":2,"unread":0,"at":"2026-08-01T12:00:00.000Z"}`.
/// When writing fails, a warning is logged, and no more events are written. The sink is written to while the service
/// waits, so a slow one slows the service.
///
/// ```
/// use zim_batch::simulator::{Options, World, serve};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// println!("http://{}/", listener.local_addr()?);
/// let stop = std::future::ready(()); // or tokio::signal::ctrl_c()
/// let tally = serve(listener, World::sample(), Options::default(), None, async { stop.await }).await?;
/// assert_eq!(tally.requests, 0);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] at once if an option is out of its range; the listener's error if it fails to accept
/// connections for about 5 seconds on end.
pub async fn serve(
    listener: TcpListener,
    world: World,
    options: Options,
    events: Option<Box<dyn Write + Send>>,
    stop: impl Future<Output = ()>,
) -> io::Result<Stats> {
    options.check()?;
    let service = Arc::new(Service::new(world, options, events));
    // Dropping the sender tells every connection to end.
    let (serving, ending) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut failures = 0;
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    connections.spawn(converse(stream, Arc::clone(&service), ending.clone()));
                }
                Err(error) if failures >= ACCEPT_FAILURES => return Err(error),
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, "the simulator could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(serving);
    let ended = async { while connections.join_next().await.is_some() {} };
    // Whoever has sent half a request by then is cut off, with the set of connections.
    let _ = tokio::time::timeout(service.slowest_answer().saturating_add(GRACE), ended).await;
    Ok(service.tally())
}

/// Serves one connection until either side ends it.
async fn converse(stream: TcpStream, service: Arc<Service>, mut ending: watch::Receiver<()>) {
    // Without it small answers can wait for acknowledgements. Where it can't be set, they just come later.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| service.answer(request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = ending.changed() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let Err(error) = ended else { return };
    if error.is_parse() {
        service.note_unreadable();
    } else if error.is_user() {
        // With zero linger, closing sends a reset in place of an orderly end.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}
