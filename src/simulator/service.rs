//! One request's way through the service.
//!
//! Everything that depends on what came before (the cap, chance, the world, the tally) is decided in one step under one
//! lock, at one moment. Waiting happens before and after it. So a client that hangs up early can't leave the tally
//! half-counted, and the order in which requests take that step is the order of the events.

use super::cap::{Cap, Peak};
use super::clock::Clock;
use super::codes::{Reply, SUCCESS, TOO_FAST, WRONG_METHOD, WRONG_PATH};
use super::events::Events;
use super::faults::{FaultInjector, Reset};
use super::query::Query;
use super::rules;
use super::{Options, OutageKind, Stats, World};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The first request ID less one: that of the documents' example. Larger than 2^53, as real ones are.
const REQUEST_IDS_FROM: u64 = 343_649_807_833_778_782;

/// The connection is to be reset instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on purpose")]
pub(super) struct ResetConnection;

/// The simulated service: rules, limits, world and record.
pub(super) struct Service {
    options: Options,
    clock: Clock,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    cap: Cap,
    peak: Peak,
    chance: FaultInjector,
    world: World,
    events: Events,
    tally: Stats,
}

/// How a request is answered.
enum Answer {
    Code(StatusCode, Reply),
    /// The service is down: a bare 503.
    Unavailable,
    /// A gateway's 429.
    TooMany(Duration),
    /// No answer at all.
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
            chance: FaultInjector::new(options.seed),
            world,
            events: Events::new(events),
            tally: Stats::default(),
        };
        Self {
            clock: Clock {
                offset: options.clock_offset,
            },
            options,
            started: Instant::now(),
            state: Mutex::new(state),
        }
    }

    /// How long an answer can take at most.
    pub(super) fn slowest_answer(&self) -> Duration {
        let Options {
            arrival_jitter,
            latency,
            jitter,
            ..
        } = self.options;
        arrival_jitter.saturating_add(latency).saturating_add(jitter)
    }

    pub(super) fn note_unreadable(&self) {
        self.state().tally.unreadable += 1;
    }

    pub(super) fn tally(&self) -> Stats {
        self.state().tally.clone()
    }

    pub(super) async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, ResetConnection> {
        let Options {
            arrival_jitter,
            latency,
            jitter,
            ..
        } = self.options;
        if !arrival_jitter.is_zero() {
            let on_its_way = self.state().chance.delay(arrival_jitter);
            tokio::time::sleep(on_its_way).await;
        }
        let (answer, request_id, longer) = {
            let query = self.authorise(&request);
            let mut state = self.state();
            let answer = self.decide(&mut state, query);
            (
                answer,
                REQUEST_IDS_FROM.saturating_add(state.tally.requests),
                state.chance.delay(jitter),
            )
        };
        let delay = latency.saturating_add(longer);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.respond(answer, request_id)
    }

    /// Everything about a request that can be judged by itself.
    fn authorise<'a, B>(&self, request: &'a Request<B>) -> Result<Query<'a>, (StatusCode, Reply)> {
        if request.uri().path() != "/" {
            return Err((StatusCode::NOT_FOUND, WRONG_PATH));
        }
        if request.method() != Method::GET {
            return Err((StatusCode::METHOD_NOT_ALLOWED, WRONG_METHOD));
        }
        let text = request.uri().query().unwrap_or_default().as_bytes();
        let check = |query: &Query<'_>| {
            let Options {
                app_id, server_secret, ..
            } = &self.options;
            rules::authorise(query, *app_id, server_secret.expose_secret(), self.clock.unix_seconds())
        };
        Query::parse(text)
            .and_then(|query| check(&query).map(|()| query))
            .map_err(|reply| (StatusCode::OK, reply))
    }

    /// Counts the request, carries it out, and says how to answer.
    fn decide(&self, state: &mut State, query: Result<Query<'_>, (StatusCode, Reply)>) -> Answer {
        // Under the lock, so that the cap never sees time go back.
        let now = self.started.elapsed();
        state.tally.requests += 1;
        if let Some(outage) = self.options.outage.filter(|outage| outage.is_on(now)) {
            state.tally.outage += 1;
            return match outage.kind {
                OutageKind::Unavailable => Answer::Unavailable,
                OutageKind::Reset => Answer::Reset,
            };
        }
        let answer = match query {
            Err((status, reply)) => {
                state.tally.refused += 1;
                Answer::Code(status, reply)
            }
            Ok(query) => self.admit(state, &query, now),
        };
        if let Answer::Code(_, reply) = answer {
            *state.tally.codes.entry(reply.code).or_default() += 1;
        }
        answer
    }

    /// A correctly signed request meets the cap, then chance, then the world.
    fn admit(&self, state: &mut State, query: &Query<'_>, now: Duration) -> Answer {
        state.tally.peak_1s = state.tally.peak_1s.max(state.peak.note(now));
        if !state.cap.admit(now) {
            state.tally.limited += 1;
            return self
                .options
                .retry_after
                .map_or(Answer::Code(StatusCode::OK, TOO_FAST), Answer::TooMany);
        }
        state.tally.accepted += 1;
        let luck = state.chance.luck(&self.options);
        if luck.reset == Some(Reset::Request) {
            state.tally.reset += 1;
            return Answer::Reset;
        }
        let done = luck.instead.map_or_else(|| self.clear(state, query), Err);
        let tally = &mut state.tally;
        if luck.reset.is_some() {
            tally.reset += 1;
            return Answer::Reset;
        }
        let (count, reply) = match done {
            Ok(()) => (&mut tally.ok, SUCCESS),
            Err(reply) if luck.instead.is_some() => (&mut tally.faults, reply),
            Err(reply) if reply == super::codes::OUTSIDE => (&mut tally.outside, reply),
            Err(reply) => (&mut tally.rejected, reply),
        };
        *count += 1;
        Answer::Code(StatusCode::OK, reply)
    }

    fn clear(&self, state: &mut State, query: &Query<'_>) -> Result<(), Reply> {
        let call = rules::call(query)?;
        let unread = state.world.clear(&call, self.options.newest)?;
        // Clients are told what changes; where nothing was unread, nothing does.
        if unread > 0 {
            state.tally.cleared += 1;
            state.events.conversation_changed(&call, self.clock.now());
        }
        Ok(())
    }

    fn respond(&self, answer: Answer, request_id: u64) -> Result<Response<Full<Bytes>>, ResetConnection> {
        let mut response = match answer {
            Answer::Reset => return Err(ResetConnection),
            Answer::Unavailable => plain(StatusCode::SERVICE_UNAVAILABLE, "the simulated service is down\n", &[]),
            Answer::TooMany(wait) => {
                let seconds = HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
                plain(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many requests\n",
                    &[(RETRY_AFTER, seconds)],
                )
            }
            Answer::Code(status, Reply { code, message }) => {
                let body = Body {
                    code,
                    message,
                    request_id: &request_id.to_string(),
                };
                let json = serde_json::to_vec(&body).expect("numbers and text can be written as JSON");
                let mut response = Response::new(Full::from(json));
                *response.status_mut() = status;
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    headers.insert(ALLOW, HeaderValue::from_static("GET"));
                }
                response
            }
        };
        // Otherwise hyper writes the date, from a cache.
        if self.clock.offset != 0 {
            let date = HeaderValue::try_from(httpdate::fmt_http_date(self.clock.now()));
            response
                .headers_mut()
                .insert(DATE, date.expect("a date is plain ASCII"));
        }
        Ok(response)
    }

    /// A panic while the lock was held, which only an events sink could cause, leaves the state usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn plain(status: StatusCode, text: &'static str, headers: &[(HeaderName, HeaderValue)]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let plain = [(CONTENT_TYPE, HeaderValue::from_static("text/plain"))];
    response.headers_mut().extend(plain.iter().chain(headers).cloned());
    response
}
