//! Handles one request.
//!
//! Everything that depends on earlier requests (the cap, the faults, the world, the statistics) is decided in one step
//! under one lock. Delays come before and after this step. So a client that disconnects early can't leave the
//! statistics incomplete, and the events have the order of these steps.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::time::Instant;

use super::body::{Object, RequestBody};
use super::cap::{Cap, Peak};
use super::clock::Clock;
use super::codes::{NO_SUCH_USER, OUTSIDE, Reply, SUCCESS, TOO_FAST, USER_UNAVAILABLE, WRONG_METHOD, WRONG_PATH};
use super::content::{Content, ConversationList, UserInfos};
use super::events::Events;
use super::faults::{FaultInjector, Reset, UserFaults};
use super::options::{Options, OutageKind};
use super::query::Query;
use super::rules::{self, Action};
use super::stats::Stats;
use super::world::World;

/// One less than the first request ID, which is that of the documents' example: larger than 2^53, like real ones.
const BEFORE_FIRST_REQUEST_ID: u64 = 343_649_807_833_778_782;

/// The connection is to be reset, without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on purpose")]
pub(super) struct ResetConnection;

/// ZIM, simulated; shared by all connections.
pub(super) struct SimulatedZim {
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

/// A request whose path, method and common parameters are right.
struct Call<'a> {
    action: Action,
    query: Query<'a>,
    /// Only of a POST.
    body: Option<&'a RequestBody>,
}

/// How a request is answered.
enum Answer {
    Json(Json),
    /// The service is down: HTTP 503 without JSON.
    Unavailable,
    /// HTTP 429 without JSON, with this `Retry-After`.
    TooManyRequests(Duration),
    /// The connection is reset.
    Reset,
}

/// An answer with a code.
struct Json {
    status: StatusCode,
    /// The `Allow` header.
    allow: Option<&'static str>,
    reply: Reply,
    content: Content,
}

impl Json {
    fn new(reply: Reply, content: Content) -> Json {
        Json {
            status: StatusCode::OK,
            allow: None,
            reply,
            content,
        }
    }
}

impl From<Reply> for Json {
    fn from(reply: Reply) -> Json {
        Json::new(reply, Content::Nothing {})
    }
}

/// The JSON of every documented answer.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonFields<'a> {
    code: u32,
    message: &'a str,
    request_id: &'a str,
    #[serde(flatten)]
    content: &'a Content,
}

impl SimulatedZim {
    pub fn new(world: World, options: Options, events: Option<Box<dyn Write + Send>>) -> SimulatedZim {
        let state = State {
            cap: Cap::new(options.cap, options.competing),
            peak: Peak::default(),
            faults: FaultInjector::new(options.seed),
            world,
            events: Events::new(events),
            stats: Stats::default(),
        };
        SimulatedZim {
            clock: Clock {
                offset: options.clock_offset,
            },
            options,
            started_at: Instant::now(),
            state: Mutex::new(state),
        }
    }

    /// The longest time that an answer can take.
    pub fn max_delay(&self) -> Duration {
        let Options {
            arrival_jitter,
            latency,
            jitter,
            ..
        } = self.options;
        arrival_jitter.saturating_add(latency).saturating_add(jitter)
    }

    pub fn record_unreadable(&self) {
        self.state().stats.unreadable += 1;
    }

    pub fn stats(&self) -> Stats {
        self.state().stats.clone()
    }

    pub async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, ResetConnection>
    where
        B: Body<Data = Bytes>,
    {
        let arrival_delay = self.state().faults.delay(self.options.arrival_jitter);
        sleep(arrival_delay).await;
        let (head, body) = request.into_parts();
        let body = match head.method {
            Method::POST => Some(RequestBody::read(&head.headers, body).await),
            _ => None,
        };
        let (answer, request_id, jitter) = {
            let authorized = self.authorize(&head, body.as_ref());
            let mut state = self.state();
            let answer = self.decide(&mut state, authorized);
            let request_id = BEFORE_FIRST_REQUEST_ID.saturating_add(state.stats.requests);
            (answer, request_id, state.faults.delay(self.options.jitter))
        };
        sleep(self.options.latency.saturating_add(jitter)).await;
        self.respond(answer, request_id)
    }

    /// Checks everything that needs no state: path, method, query string and common parameters.
    fn authorize<'a>(&self, head: &'a Parts, body: Option<&'a RequestBody>) -> Result<Call<'a>, Json> {
        if head.uri.path() != "/" {
            return Err(Json {
                status: StatusCode::NOT_FOUND,
                ..Json::from(WRONG_PATH)
            });
        }
        let query = Query::parse(head.uri.query().unwrap_or_default().as_bytes());
        let action = query.as_ref().ok().and_then(Action::of);
        let allowed = action.map_or("GET, POST", Action::method);
        if !allowed.split(", ").any(|method| head.method == method) {
            return Err(Json {
                status: StatusCode::METHOD_NOT_ALLOWED,
                allow: Some(allowed),
                ..Json::from(WRONG_METHOD)
            });
        }
        let query = query?;
        let secret = self.options.server_secret.expose_secret();
        let action = rules::authorize(&query, self.options.app_id, secret, self.clock.unix_seconds())?;
        Ok(Call { action, query, body })
    }

    /// Counts the request, carries it out and returns how to answer it.
    fn decide(&self, state: &mut State, authorized: Result<Call<'_>, Json>) -> Answer {
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
            Err(refusal) => {
                state.stats.refused += 1;
                Answer::Json(refusal)
            }
            Ok(call) => self.admit(state, &call, now),
        };
        if let Answer::Json(Json { reply, .. }) = &answer {
            *state.stats.codes.entry(reply.code).or_default() += 1;
        }
        answer
    }

    /// Applies the cap and the faults to an authorized request, and carries it out.
    fn admit(&self, state: &mut State, call: &Call<'_>, now: Duration) -> Answer {
        *state.stats.actions.entry(call.action.name()).or_default() += 1;
        state.stats.peak_1s = state.stats.peak_1s.max(state.peak.record(now));
        if !state.cap.admit(now) {
            state.stats.limited += 1;
            return match self.options.retry_after {
                Some(retry_after) => Answer::TooManyRequests(retry_after),
                None => Answer::Json(TOO_FAST.into()),
            };
        }
        state.stats.accepted += 1;
        let mut fault = state.faults.draw(&self.options);
        let result = match fault.reply {
            _ if fault.reset == Some(Reset::RequestLost) => Ok(Content::Nothing {}),
            Some(reply) => Err(reply),
            None => self.carry_out(state, call, &mut fault.users),
        };
        let stats = &mut state.stats;
        if fault.reset.is_some() {
            stats.reset += 1;
            return Answer::Reset;
        }
        let (count, answer) = match result {
            Ok(content) => (&mut stats.ok, Json::new(SUCCESS, content)),
            Err(reply) if fault.reply.is_some() => (&mut stats.faults, reply.into()),
            Err(OUTSIDE) => (&mut stats.outside, OUTSIDE.into()),
            Err(reply) => (&mut stats.rejected, reply.into()),
        };
        *count += 1;
        Answer::Json(answer)
    }

    /// The one place where an action leads to what it does.
    fn carry_out(&self, state: &mut State, call: &Call<'_>, faults: &mut UserFaults) -> Result<Content, Reply> {
        let object = call.body.map(RequestBody::object).transpose()?.unwrap_or_default();
        match call.action {
            Action::ClearConversationUnread => self.clear_conversation_unread(state, &call.query),
            Action::QueryConversationList => self.query_conversation_list(&state.world, &object),
            Action::QueryUserInfos => query_user_infos(&state.world, &object, faults),
        }
    }

    fn clear_conversation_unread(&self, state: &mut State, query: &Query<'_>) -> Result<Content, Reply> {
        let key = rules::clear_parameters(query)?;
        let unread = state.world.clear(&key, self.options.newest)?;
        // Clients get an event only if the count changes.
        if unread > 0 {
            state.stats.cleared += 1;
            state.events.conversation_changed(&key, self.clock.now());
        }
        Ok(Content::Nothing {})
    }

    fn query_conversation_list(&self, world: &World, body: &Object) -> Result<Content, Reply> {
        let request = rules::list_parameters(body)?;
        let newest_first = world.newest(request.user, self.options.newest)?;
        ConversationList::page(newest_first, &request).map(Content::Conversations)
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
            Answer::Json(answer) => {
                let fields = JsonFields {
                    code: answer.reply.code,
                    message: answer.reply.message,
                    request_id: &request_id.to_string(),
                    content: &answer.content,
                };
                let json = serde_json::to_vec(&fields).expect("numbers and text can be written as JSON");
                let mut response = response(answer.status, "application/json", json);
                if let Some(allowed) = answer.allow {
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
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

/// Looks up each user. Which of the two codes a user that does not exist gets depends on its ID alone, so that it is
/// the same in every answer.
fn query_user_infos(world: &World, body: &Object, faults: &mut UserFaults) -> Result<Content, Reply> {
    let mut infos = UserInfos::default();
    for user in rules::queried_users(body)? {
        if faults.draw() {
            infos.push_error(user, USER_UNAVAILABLE);
        } else if world.is_registered(user) {
            infos.push_found(user);
        } else {
            infos.push_error(user, NO_SUCH_USER[user.len() % 2]);
        }
    }
    Ok(Content::Users(infos))
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
