//! A server on 127.0.0.1 that follows the documented rules of three calls of ZIM's API.
//!
//! The tests, the examples, the benches and simulated runs use it, and you can point other programs at it. It shares no
//! code with the client, so that it detects the client's mistakes: it decodes the query and the body, computes the
//! signature and counts requests by its own reading of ZEGO's documents.
//!
//! # The calls
//! All have the path `/`, and `Action` and the signed common parameters in the query string. The business parameters of
//! a GET are there too; those of a POST are the fields of a JSON object in the body, of the type `application/json`.
//!
//! | Action | method | business parameters | what it does |
//! |---|---|---|---|
//! | `ClearConversationUnread` | GET | `FromUserId`, `ConvId`, `ConvType` | sets an unread count to 0 |
//! | `QueryConversationList` | POST | `FromUserId`; optional: `Limit`, `Next` | lists a user's conversations |
//! | `QueryUserInfos` | POST | `UserIds` | tells which of these users exist |
//!
//! Successful answers are:
//!
//! ```json
//! {"Code":0,"Message":"success","RequestId":"343649807833778783"}
//! {"Code":0,"Message":"success","RequestId":"343649807833778784","TotalCount":4,"Next":4611686027812755587,"List":[
//!   {"ConvId":"#1+1=2 ?","ConvType":2,"UpdateTime":1767225420000},{"ConvId":"carol","UpdateTime":1767225480000}]}
//! {"Code":0,"Message":"success","RequestId":"343649807833778785","Result":[{"UserId":"alice","UserName":"alice"}],
//!  "ErrorList":[{"UserId":"nobody","SubCode":660700015}]}
//! ```
//!
//! A list has the user's newest conversations, ascending by the time of their last update. `Limit` is the size of a
//! page: at least 1, 100 if it is left out; more than 500 counts as 500. `Next` is 0 for the first page, then what the
//! last answer said, until that is 0. `UserIds` are 1 to 100 strings of 1 to 64 bytes. `SubCode` 660700008 is a user
//! that could not be looked up just now; see [`Options::error_rate`].
//!
//! # How a request is handled
//! 1. It is delayed by up to [`Options::arrival_jitter`].
//! 2. During an [`Outage`] it fails here.
//! 3. The common parameters are checked: present, well-formed, of the app that exists, at most 10 minutes old or early,
//!    correctly signed, and for an Action that exists. Each violation has its documented code.
//! 4. The [cap](Options::cap) admits it, or it is answered with code 7.
//! 5. It may meet a fault: [`Options::reset_rate`], [`Options::limited_rate`], [`Options::error_rate`].
//! 6. The body and the business parameters are checked, and the request is carried out in the [`World`].
//! 7. The answer is sent after [`Options::latency`] and up to [`Options::jitter`] more.
//!
//! Every answer with a code is JSON, with HTTP status 200 except for a wrong path or method.
//!
//! # Where ZEGO's documents are silent
//! There, the simulator's behaviour is a choice, not a promise of ZEGO's:
//! - *Order of the checks:* as above. Codes for empty or malformed parameters come before codes for wrong ones, and a
//!   wrong time comes before a wrong signature.
//! - *What counts against the cap:* requests that are correctly signed and admitted, whatever their result. Refused and
//!   badly signed requests do not count: its quota should not be usable without the app's secret. There is one cap: the
//!   calls of all Actions count against it together. Outages, faults and delays are the same for all, too.
//! - *How a second is counted:* in the strictest way; see [`Options::cap`].
//! - *Code 2* (input parameter error) answers a query string that can't be decoded, a body that is not one JSON object,
//!   a repeated parameter in either, and a `SignatureNonce` that is not 16 lower-case hex digits. Unknown parameters
//!   are ignored, and so are business parameters in the wrong one of the two. A nonce may be used again.
//! - *A missing parameter* counts as empty. A missing `AppId` has a wrong format, 100000001.
//! - *Numbers* are decimal, without sign or leading zeros. `Timestamp` is compared in whole seconds: 600 off is accepted,
//!   601 is not.
//! - *A path other than `/`* is HTTP 404, *a method other than the Action's* HTTP 405 with `Allow`, both with code
//!   100000000. Without a known Action, GET and POST get as far as the check of the Action.
//! - *A body* over 64 KiB, or one that breaks off, is 100000012 (the HTTP body could not be read). *A `Content-Type`*
//!   other than `application/json` is 660000002; it may have parameters.
//! - *In a body*, numbers are written without fraction, exponent, sign or quotes, and strings as strings; anything
//!   else, `null` included, is 660000002.
//! - *`Next`* has 19 digits and fits an `i64`, but not a double. One that this user's list was not answered with is
//!   660000002: with another digit, rounded to a double, or of another user. It may be used again.
//! - *`ConvType`* of every other one-to-one conversation is absent, of the others 0: the documents allow both.
//! - *`UpdateTime`* is described at [`World::from_csv`]. It never changes, so no conversation moves while one pages.
//! - *`TotalCount`* is the number of conversations in all pages together, so at most [`Options::newest`].
//! - *A list without conversations* has no `List`; `Result` and `ErrorList` are always there.
//! - *Users that don't exist* have one of the two documented `SubCode`s: 660700015 if their ID has an even number of
//!   bytes, else 660000002. A user that is asked for twice is answered once. The peer of a conversation need not exist.
//! - *A `ConvId` over 32 bytes* is 660000002 (only user IDs have a code of their own, 660000012). IDs must be UTF-8;
//!   their characters are not checked.
//! - *An unknown peer or group* is answered 660800002, like any conversation that does not exist.
//! - *Events* are written for clears that changed something: exactly one for each conversation that had unread messages,
//!   however often it is cleared.
//!
//! # Layers
//! Each file imports only files of the lines below its own, and nothing else of this crate:
//!
//! ```text
//! mod           accepts connections, stops
//! simulated_zim handles one request; carries out each Action
//! content       what answers say beside their code
//! rules         checks of parameters      world      who has which conversation
//! query  body   decode the parameters     world_csv  reads a world from a file
//! events        writes events             faults     random faults and delays
//! cap  clock  codes  conversation  options  stats    (import none of the others)
//! ```

mod body;
mod cap;
mod clock;
mod codes;
mod content;
mod conversation;
mod events;
mod faults;
mod options;
mod query;
mod rules;
mod simulated_zim;
mod stats;
mod world;
mod world_csv;

use std::io::{self, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use options::{Options, Outage, OutageKind};
use simulated_zim::SimulatedZim;
pub use stats::Stats;
pub use world::World;
pub use world_csv::WorldError;

/// How long connections may take to end after the last answer is due.
const GRACE: Duration = Duration::from_millis(500);

/// The pause after a connection could not be accepted, and how many failures in a row are tolerated.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_ACCEPT_FAILURES: u32 = 100;

/// Serves until `stop` completes, then answers the open requests and returns the statistics.
///
/// Use a listener on a loopback address: this server is not meant for a network. Nothing that a client sends makes it
/// panic or stop; a connection that does not carry HTTP is closed.
///
/// With `events`, each clear that found unread messages writes the event that the user's clients would get, as one line
/// of JSON, flushed immediately:
/// `{"event":"conversationChanged","user":"alice","conv":"#team","type":2,"unread":0,"at":"2026-08-01T12:00:00.000Z"}`.
/// If writing fails, a warning is logged and no more events are written. Writing blocks the service, so a slow sink
/// slows it down.
///
/// ```
/// use zim_batch::simulator::{Options, World, serve};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// println!("http://{}/", listener.local_addr()?);
/// let stop = std::future::ready(()); // or tokio::signal::ctrl_c()
/// let stats = serve(listener, World::sample(), Options::default(), None, async { stop.await }).await?;
/// assert_eq!(stats.requests, 0);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] immediately if an option is out of range; the listener's error if it accepts no
/// connection for about 5 seconds of trying.
pub async fn serve(
    listener: TcpListener,
    world: World,
    options: Options,
    events: Option<Box<dyn Write + Send>>,
    stop: impl Future<Output = ()>,
) -> io::Result<Stats> {
    options.check()?;
    let zim = Arc::new(SimulatedZim::new(world, options, events));
    // Dropping the sender makes every connection end.
    let (serving, stopping) = watch::channel(());
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
                    connections.spawn(serve_connection(stream, Arc::clone(&zim), stopping.clone()));
                }
                Err(error) if failures >= MAX_ACCEPT_FAILURES => return Err(error),
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
    let all_ended = async { while connections.join_next().await.is_some() {} };
    // Connections with half a request are then closed, when the set of connections is dropped.
    let _ = tokio::time::timeout(zim.max_delay().saturating_add(GRACE), all_ended).await;
    Ok(zim.stats())
}

/// Serves one connection until either side ends it.
async fn serve_connection(stream: TcpStream, zim: Arc<SimulatedZim>, mut stopping: watch::Receiver<()>) {
    // Otherwise small answers can wait for acknowledgements. A failure only makes them slower.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| zim.answer(request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    let result = tokio::select! {
        result = &mut connection => result,
        _ = stopping.changed() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let Err(error) = result else { return };
    if error.is_parse() {
        zim.record_unreadable();
    } else if error.is_user() {
        // With zero linger, closing sends a reset instead of an orderly end.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}
