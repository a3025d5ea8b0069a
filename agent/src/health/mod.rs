//! The checks of a service: ready yet, and well since (the hard signals of R24).
//!
//! [`wait_ready`] asks each until its first good answer, [`watch`] from then on until too many bad
//! ones of one of them in a row. Of an HTTP check, good is a status of 200 to 299, whole within the
//! check's timeout; everything else is bad: no connection, no answer in time, a redirect, an endless
//! body. Of a command, good is exit code 0 in that time.
//!
//! Which verdict a service can get, by what it lets be seen; whatever is there counts, the first that
//! says no decides:
//!
//! | there is | seen in the bake | verdict |
//! |---|---|---|
//! | a unit | exits, restarts, a failed start ([`crate::services`]) | hard |
//! | `journal_errors_max` | lines of errors of the unit, in a minute | hard |
//! | `http` | bad answers in a row | hard |
//! | `command` | bad exits in a row | hard |
//! | `metrics` | shares of errors and slow answers, beside the old release's | soft ([`metrics`]) |
//! | none of these | nothing: a start command that succeeds is all there is | commits |

mod command;
pub mod metrics;
mod url;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use proto::statement::Health;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::services::Variables;
use crate::trail::Trail;
pub use command::Script;
pub use url::UrlError;

/// Longest body of an answer, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Longest pause between two questions while the service gets ready: it is down until then.
const READY_PAUSE: Duration = Duration::from_millis(100);

/// What to ask, how often, and what counts as failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    probe: Probe,
    /// From start to the first good answer.
    ready_timeout: Duration,
    /// From one question to the next.
    interval: Duration,
    /// For one answer.
    timeout: Duration,
    /// Bad answers in a row that make a failure.
    failures_max: u32,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Probe {
    Http(Uri),
    Command(Script),
}

impl Check {
    /// The HTTP check of a release on a host with these variables; none where the release has none.
    ///
    /// # Errors
    ///
    /// [`UrlError`]: the URL names a variable that is not set, or is none once they are filled in.
    pub fn new(health: &Health, variables: &Variables) -> Result<Option<Self>, UrlError> {
        let Some(http) = &health.http else { return Ok(None) };
        Ok(Some(Self::of(health, Probe::Http(url::fill_in("http", http, variables)?))))
    }

    /// The check of a release by a command.
    pub fn command(health: &Health, script: Script) -> Self {
        Self::of(health, Probe::Command(script))
    }

    fn of(health: &Health, probe: Probe) -> Self {
        let Health { ready_timeout_s, interval_ms, timeout_ms, failures_max, .. } = *health;
        let ms = |ms: u32| Duration::from_millis(ms.into());
        Self {
            probe,
            ready_timeout: Duration::from_secs(ready_timeout_s.into()),
            interval: ms(interval_ms),
            timeout: ms(timeout_ms),
            failures_max,
        }
    }

    /// Of a URL the path alone: on which host is known, and evidence is a short line.
    fn name(&self) -> &str {
        match &self.probe {
            Probe::Http(uri) => uri.path(),
            Probe::Command(_) => "health.command",
        }
    }
}

/// Asks one after the other until the first good answer of each.
///
/// # Errors
///
/// Not one within `ready_timeout`, which is for all of them together: a line that says how the last
/// question ended.
pub async fn wait_ready(checks: &[Check], trail: &Trail) -> Result<(), String> {
    let began = Instant::now();
    for check in checks {
        wait_for(check, began + check.ready_timeout, trail).await?;
    }
    Ok(())
}

async fn wait_for(check: &Check, end: Instant, trail: &Trail) -> Result<(), String> {
    let pause = check.interval.min(READY_PAUSE);
    let mut last = String::from("not asked");
    loop {
        let next = Instant::now() + pause;
        match tokio::time::timeout_at(end, look(check, trail)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(bad)) => last = bad,
            // Cut short by the end: the last whole answer says more.
            Err(_) => {}
        }
        if next >= end {
            let limit_s = check.ready_timeout.as_secs();
            return Err(format!("{}: not ready within {limit_s} s: {last}", check.name()));
        }
        sleep_until(next).await;
    }
}

/// Asks all of them until one fails, and returns the evidence; or until `stop`, and returns nothing.
pub async fn watch(checks: &[Check], trail: &Trail, stop: &CancellationToken) -> Option<String> {
    let mut watches = JoinSet::new();
    for check in checks {
        let (check, trail, stop) = (check.clone(), trail.clone(), stop.clone());
        watches.spawn(async move { watch_one(&check, &trail, &stop).await });
    }
    match watches.join_next().await {
        Some(Ok(note)) => note,
        Some(Err(error)) => Some(format!("the watch over its health ended: {error}")),
        None => {
            stop.cancelled().await;
            None
        }
    }
}

/// Asks until `failures_max` bad answers in a row, and returns the evidence; or until `stop`, and
/// returns nothing. A good answer clears the count.
///
/// A question is asked every `interval`, or as soon as the one before it is done with.
async fn watch_one(check: &Check, trail: &Trail, stop: &CancellationToken) -> Option<String> {
    let watched = async {
        let mut in_a_row = 0_u32;
        let mut ailing = None;
        loop {
            let next = Instant::now() + check.interval;
            match look(check, trail).await {
                Ok(()) => (in_a_row, ailing) = (0, None),
                Err(bad) => {
                    in_a_row += 1;
                    ailing.get_or_insert_with(|| trail.ails());
                    tracing::debug!(check = check.name(), %bad, in_a_row, "bad health check");
                    if in_a_row >= check.failures_max {
                        return format!("{}: {bad}{}", check.name(), times(in_a_row));
                    }
                }
            }
            sleep_until(next).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        note = watched => Some(note),
    }
}

/// How often it happened, in words behind it.
fn times(count: u32) -> String {
    const NAMES: [&str; 6] = ["three", "four", "five", "six", "seven", "eight"];
    match count {
        0 | 1 => String::new(),
        2 => " twice in a row".to_owned(),
        _ => match NAMES.get(count as usize - 3) {
            Some(name) => format!(" {name} times in a row"),
            None => format!(" {count} times in a row"),
        },
    }
}

/// One question, and the answer for whoever asks later why it failed.
async fn look(check: &Check, trail: &Trail) -> Result<(), String> {
    let answer = ask(check).await;
    let shown = answer.as_ref().map_or_else(String::as_str, |()| "well");
    trail.say(format_args!("{}: {shown}", check.name()));
    answer
}

/// One question. `Err`: in few words, why the answer is a bad one.
async fn ask(check: &Check) -> Result<(), String> {
    let answer = async {
        match &check.probe {
            Probe::Http(uri) => get(uri, BODY_BYTES_MAX).await.map(drop),
            Probe::Command(script) => script.run().await,
        }
    };
    let late = |_| Err(format!("no answer within {} ms", check.timeout.as_millis()));
    timeout(check.timeout, answer).await.unwrap_or_else(late)
}

/// The body of a good answer. `Err`: in few words, why it is none.
async fn get(uri: &Uri, body_bytes_max: usize) -> Result<Bytes, String> {
    let (host, port) = url::host_port(uri);
    let stream = TcpStream::connect((host, port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => format!("cannot connect: {error}"),
    })?;
    let failed = |error: hyper::Error| format!("no HTTP answer: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, "groundswell")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("cannot ask: {error}"))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(status.as_u16().to_string());
        }
        // Read to the end: a service that breaks in the middle of an answer is not well.
        match Limited::new(response.into_body(), body_bytes_max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(format!("a body of more than {body_bytes_max} bytes"))
            }
            Err(error) => Err(format!("the answer breaks off: {error}")),
        }
    };
    // The connection is driven here and dropped with the answer: nothing is left in the background.
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error)),
        },
    }
}

#[cfg(test)]
mod tests;
