//! Handles one request.
//!
//! Everything that depends on earlier requests (the cap, the faults, the world, the statistics) is decided in one step
//! under one lock. Delays come before and after this step. So a client that disconnects early can't leave the
//! statistics incomplete, and the events have the order of these steps.

use super::cap::{Cap, Peak};
use super::clock::Clock;
use super::codes::{OUTSIDE, Reply, SUCCESS, TOO_FAST, WRONG_METHOD, WRONG_PATH};
use super::events::Events;
use super::faults::{FaultInjector, Reset};
use super::options::{Options, OutageKind};
use super::query::Query;
use super::rules::{self, Action};
use super::stats::Stats;
use super::world::World;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// One less than the first request ID, which is that of the documents' example: larger than 2^53, like real ones.
const BEFORE_FIRST_REQUEST_ID: u64 = 343_649_807_833_778_782;

/// The connection is to be reset, without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on purpose")]
pub(super) struct ResetConnection;

/// The simulated service, shared by all connections.
pub(super) struct Service {
    options: Options,
    clock: Clock,
    started_at: Instant,
    state: Mutex<State>,
}

struct State {
    cap: Cap,
    peak: Peak,
    faults: FaultInjector,
    world: World,
    events: Events,
    stats: Stats,
}

/// How a request is answered.
enum Answer {
    Json(StatusCode, Reply),
    /// The service is down: HTTP 503 without JSON.
    Unavailable,
    /// HTTP 429 without JSON, with this `Retry-After`.
    TooManyRequests(Duration),
    /// The connection is reset.
    Reset,
}

/// The JSON of every documented answer.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    code: u32,
    message: &'a str,
    request_id: &'a str,
}

impl Service {
    pub(super) fn new(world: World, options: Options, events: Option<Box<dyn Write + Send>>) -> Self {
        let state = State {
            cap: Cap::new(options.cap, options.competing),
            peak: Peak::default(),
            faults: FaultInjector::new(options.seed),
            world,
            events: Events::new(events),
            stats: Stats::default(),
        };
        Self {
            clock: Clock {
                offset: options.clock_offset,
            },
            options,
            started_at: Instant::now(),
            state: Mutex::new(state),
        }
    }

    /// The longest time that an answer can take.
    pub(super) fn max_delay(&self) -> Duration {
        let Options {
            arrival_jitter,
            latency,
            jitter,
            ..
        } = self.options;
        arrival_jitter.saturating_add(latency).saturating_add(jitter)
    }

    pub(super) fn record_unreadable(&self) {
        self.state().stats.unreadable += 1;
    }

    pub(super) fn stats(&self) -> Stats {
        self.state().stats.clone()
    }

    pub(super) async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, ResetConnection> {
        let arrival_delay = self.state().faults.delay(self.options.arrival_jitter);
        sleep(arrival_delay).await;
        let (answer, request_id, jitter) = {
            let authorized = self.authorize(&request);
            let mut state = self.state();
            let answer = self.decide(&mut state, authorized);
            let request_id = BEFORE_FIRST_REQUEST_ID.saturating_add(state.stats.requests);
            (answer, request_id, state.faults.delay(self.options.jitter))
        };
        sleep(self.options.latency.saturating_add(jitter)).await;
        self.respond(answer, request_id)
    }

    /// Checks everything that needs no state: path, method, query string and common parameters.
    fn authorize<'a, B>(&self, request: &'a Request<B>) -> Result<(Action, Query<'a>), (StatusCode, Reply)> {
        if request.uri().path() != "/" {
            return Err((StatusCode::NOT_FOUND, WRONG_PATH));
        }
        if request.method() != Method::GET {
            return Err((StatusCode::METHOD_NOT_ALLOWED, WRONG_METHOD));
        }
        let secret = self.options.server_secret.expose_secret();
        Query::parse(request.uri().query().unwrap_or_default().as_bytes())
            .and_then(|query| {
                let action = rules::authorize(&query, self.options.app_id, secret, self.clock.unix_seconds())?;
                Ok((action, query))
            })
            .map_err(|reply| (StatusCode::OK, reply))
    }

    /// Counts the request, carries it out and returns how to answer it.
    fn decide(&self, state: &mut State, authorized: Result<(Action, Query<'_>), (StatusCode, Reply)>) -> Answer {
        // Measured under the lock, so that time never decreases for the cap.
        let now = self.started_at.elapsed();
        state.stats.requests += 1;
        if let Some(outage) = self.options.outage.filter(|outage| outage.is_on(now)) {
            state.stats.outage += 1;
            return match outage.kind {
                OutageKind::Unavailable => Answer::Unavailable,
                OutageKind::Reset => Answer::Reset,
            };
        }
        let answer = match authorized {
            Err((status, reply)) => {
                state.stats.refused += 1;
                Answer::Json(status, reply)
            }
            Ok((action, query)) => self.admit(state, action, &query, now),
        };
        if let Answer::Json(_, reply) = answer {
            *state.stats.codes.entry(reply.code).or_default() += 1;
        }
        answer
    }

    /// Applies the cap and the faults to an authorized request, and carries it out.
    fn admit(&self, state: &mut State, action: Action, query: &Query<'_>, now: Duration) -> Answer {
        state.stats.peak_1s = state.stats.peak_1s.max(state.peak.record(now));
        if !state.cap.admit(now) {
            state.stats.limited += 1;
            return match self.options.retry_after {
                Some(retry_after) => Answer::TooManyRequests(retry_after),
                None => Answer::Json(StatusCode::OK, TOO_FAST),
            };
        }
        state.stats.accepted += 1;
        let fault = state.faults.draw(&self.options);
        let result = match fault.reply {
            _ if fault.reset == Some(Reset::RequestLost) => Ok(()),
            Some(reply) => Err(reply),
            None => self.carry_out(state, action, query),
        };
        let stats = &mut state.stats;
        if fault.reset.is_some() {
            stats.reset += 1;
            return Answer::Reset;
        }
        let (count, reply) = match result {
            Ok(()) => (&mut stats.ok, SUCCESS),
            Err(reply) if fault.reply.is_some() => (&mut stats.faults, reply),
            Err(OUTSIDE) => (&mut stats.outside, OUTSIDE),
            Err(reply) => (&mut stats.rejected, reply),
        };
        *count += 1;
        Answer::Json(StatusCode::OK, reply)
    }

    /// The one place where an action leads to what it does.
    fn carry_out(&self, state: &mut State, action: Action, query: &Query<'_>) -> Result<(), Reply> {
        match action {
            Action::ClearConversationUnread => self.clear_conversation_unread(state, query),
        }
    }

    fn clear_conversation_unread(&self, state: &mut State, query: &Query<'_>) -> Result<(), Reply> {
        let key = rules::clear_parameters(query)?;
        let unread = state.world.clear(&key, self.options.newest)?;
        // Clients get an event only if the count changes.
        if unread > 0 {
            state.stats.cleared += 1;
            state.events.conversation_changed(&key, self.clock.now());
        }
        Ok(())
    }

    fn respond(&self, answer: Answer, request_id: u64) -> Result<Response<Full<Bytes>>, ResetConnection> {
        let mut response = match answer {
            Answer::Reset => return Err(ResetConnection),
            Answer::Unavailable => plain(StatusCode::SERVICE_UNAVAILABLE, "the simulated service is down\n"),
            Answer::TooManyRequests(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "too many requests\n");
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
                response
            }
            Answer::Json(status, Reply { code, message }) => {
                let body = Body {
                    code,
                    message,
                    request_id: &request_id.to_string(),
                };
                let json = serde_json::to_vec(&body).expect("numbers and text can be written as JSON");
                let mut response = response(status, "application/json", json);
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
                }
                response
            }
        };
        // Without an offset hyper adds the date itself.
        if self.clock.offset != 0 {
            let date = HeaderValue::try_from(httpdate::fmt_http_date(self.clock.now()));
            response
                .headers_mut()
                .insert(DATE, date.expect("a date is plain ASCII"));
        }
        Ok(response)
    }

    /// Ignores poisoning: only an events sink could panic here, and the state remains usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sleeps, but does not even yield for no time.
async fn sleep(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain", text)
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
