//! One request to one receiver: TLS by the system's roots, bounded in time and size, no redirects.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use member::chain;
use proto::UnixTime;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::queue::Answer;
use super::target::Target;
use super::text::clip;
use crate::desk::blocking;

/// From the name's look-up to the end of the answer.
const WITHIN: Duration = Duration::from_secs(10);
/// For one of a name's addresses: the next one may answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Longest answer read, in bytes; of a longer one its status is enough.
const ANSWER_BYTES_MAX: usize = 8 << 10;
/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// What is shown of an answer, in characters.
const SHOWN_MAX: usize = 200;

/// A POST of JSON. No `Debug`: what it holds may be secret.
pub struct Request {
    pub to: Target,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Whether what it refuses may be taken later: by a program of somebody's own, once that is mended.
    pub patient: bool,
}

/// Sends requests, each on a connection of its own: there is one a second at most.
pub struct Post {
    /// Read when the first https URL is met.
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Post {
    /// Trusts what the system trusts.
    pub fn new() -> Self {
        Self { tls: OnceCell::new() }
    }

    /// Trusts these roots alone.
    pub fn trusting(roots: RootCertStore) -> Self {
        Self { tls: OnceCell::new_with(Some(Arc::new(client(roots)))) }
    }

    /// Sends one; what is wrong is told in few words, without anything of the request. `now`: to
    /// understand a date until which to wait.
    pub async fn send(&self, request: Request, now: UnixTime) -> Answer {
        let failed = |why| Answer::Failed { why, after_s: None };
        match timeout(WITHIN, self.exchange(request, now)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => failed(why),
            Err(_) => failed(format!("no answer within {} s", WITHIN.as_secs())),
        }
    }

    async fn exchange(&self, request: Request, now: UnixTime) -> Result<Answer, String> {
        let stream = connect(&request.to).await?;
        if !request.to.tls {
            return ask(stream, request, now).await;
        }
        let name = ServerName::try_from(request.to.host.clone())
            .map_err(|_| "its URL names no host that a certificate could name".to_owned())?;
        let connector = TlsConnector::from(self.tls().await?);
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| format!("no TLS with it: {}", chain(&error)))?;
        ask(stream, request, now).await
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        let read = async || {
            let roots = blocking("read the system's roots", system_roots).await;
            roots.map_err(|refused| refused.reason)?.map(|roots| Arc::new(client(roots)))
        };
        self.tls.get_or_try_init(read).await.cloned()
    }
}

impl Default for Post {
    fn default() -> Self {
        Self::new()
    }
}

fn client(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of every version")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let next = "install the package ca-certificates";
        return Err(format!("this machine trusts no certificate authority{why}: {next}"));
    }
    Ok(roots)
}

async fn connect(to: &Target) -> Result<TcpStream, String> {
    let addresses = lookup_host((to.host.as_str(), to.port)).await;
    let addresses = addresses.map_err(|error| format!("its name is not found: {error}"))?;
    let mut why = "its name has no address".to_owned();
    for address in addresses.take(ADDRESSES_MAX) {
        match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                why = "it refuses connections".to_owned();
            }
            Ok(Err(error)) => why = format!("cannot connect: {error}"),
            Err(_) => why = format!("no connection within {} s", CONNECT_WITHIN.as_secs()),
        }
    }
    Err(why)
}

async fn ask<S>(stream: S, request: Request, now: UnixTime) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error: hyper::Error| format!("no HTTP answer: {}", chain(&error));
    let Request { to, headers, body, patient } = request;
    let mut builder = hyper::Request::post(to.path.as_str())
        .header(HOST, to.authority())
        .header(USER_AGENT, concat!("groundswell/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close");
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    let post = builder.body(Full::new(Bytes::from(body)));
    let post = post.map_err(|_| "it cannot be put as a request".to_owned())?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let exchange = async {
        let response = sender.send_request(post).await.map_err(failed)?;
        Ok(judge(response, now, patient).await)
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

async fn judge(response: Response<Incoming>, now: UnixTime, patient: bool) -> Answer {
    let status = response.status();
    if status.is_success() {
        return Answer::Taken;
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after_s = asked.and_then(|value| wait_s(value, now));
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let said = match body.trim() {
        "" => String::new(),
        said => format!(": {}", clip(said, SHOWN_MAX)),
    };
    answer_of(status, after_s, &said, patient)
}

fn answer_of(status: StatusCode, after_s: Option<u64>, said: &str, patient: bool) -> Answer {
    let code = status.as_u16();
    match code {
        200..=299 => Answer::Taken,
        300..=399 => {
            let why =
                format!("it answers {code}, from another place: put the new one into its url");
            Answer::Refused { why }
        }
        // Gone for ever, as it says.
        410 => Answer::Refused { why: format!("it answers {code}{said}") },
        408 | 429 => Answer::Failed { why: format!("it answers {code}{said}"), after_s },
        400..=499 if !patient => Answer::Refused { why: format!("it answers {code}{said}") },
        _ => Answer::Failed { why: format!("it answers {code}{said}"), after_s },
    }
}

/// `Retry-After`: seconds, or a date.
fn wait_s(value: &str, now: UnixTime) -> Option<u64> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(seconds);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(date.as_secs().saturating_sub(now.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_table() {
        // With and without patience.
        let cases = [
            (200, "taken", "taken"),
            (202, "taken", "taken"),
            (204, "taken", "taken"),
            (301, "refused", "refused"),
            (307, "refused", "refused"),
            (400, "failed 7", "refused"),
            (401, "failed 7", "refused"),
            (404, "failed 7", "refused"),
            (408, "failed 7", "failed 7"),
            (410, "refused", "refused"),
            (429, "failed 7", "failed 7"),
            (500, "failed 7", "failed 7"),
            (503, "failed 7", "failed 7"),
            (599, "failed 7", "failed 7"),
        ];
        let both = |(status, patient, not)| [(status, patient, true), (status, not, false)];
        for (status, expected, patient) in cases.into_iter().flat_map(both) {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = answer_of(status, Some(7), ": so", patient);
            let status = status.as_u16();
            let told = match answer {
                Answer::Taken => "taken".to_owned(),
                Answer::Refused { why } => {
                    assert!(why.contains(&status.to_string()), "{why}");
                    "refused".to_owned()
                }
                Answer::Failed { why, after_s } => {
                    assert_eq!(why, format!("it answers {status}: so"));
                    format!("failed {}", after_s.unwrap())
                }
            };
            assert_eq!(told, expected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // Thu, 01 Jan 2026 00:00:00 GMT
        let now = UnixTime(1_767_225_600);
        let cases = [
            ("30", Some(30)),
            (" 30 ", Some(30)),
            ("Thu, 01 Jan 2026 00:01:00 GMT", Some(60)),
            ("Wed, 31 Dec 2025 23:59:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ];
        for (value, expected) in cases {
            assert_eq!(wait_s(value, now), expected, "{value}");
        }
    }
}
