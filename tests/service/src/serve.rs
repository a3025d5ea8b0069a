//! The HTTP side.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long the address may still be taken by the version before.
const BIND_LIMIT: Duration = Duration::from_secs(2);
/// How long answers under way may take once it is asked to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long a broken version looks well.
const BREAKS_AFTER: Duration = Duration::from_millis(500);
/// Of so many requests a flaky version answers one by 500.
const FLAKY_EVERY: u64 = 5;
/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Good,
    Broken,
    Flaky,
    Crash,
}

struct Demo {
    /// The answer to `/`.
    about: String,
    behaviour: Behaviour,
    since: Instant,
    /// Requests of `/`, and those that were answered by 500.
    requests: AtomicU64,
    errors: AtomicU64,
}

/// Serves until TERM or INT; calls `listening` once it can be reached.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(listening: fn()) -> Result<()> {
    let directory = release_directory()?;
    let behaviour = behaviour(&directory)?;
    if behaviour == Behaviour::Crash {
        bail!("this version crashes when it starts");
    }
    let listen = std::env::var("LISTEN").context("LISTEN is not set")?;
    let address: SocketAddr =
        listen.parse().with_context(|| format!("LISTEN={listen} is not IP:PORT"))?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for TERM")?;
    let listener = bind(address).await?;
    let about = about(&directory)?;
    let demo = Arc::new(Demo {
        about,
        behaviour,
        since: Instant::now(),
        requests: AtomicU64::new(0),
        errors: AtomicU64::new(0),
    });
    listening();
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, demo.clone(), stopping.clone()));
                } else {
                    // Out of file descriptors, most likely: those in use come back.
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    // Closed at once: a new connection belongs to the next version.
    drop(listener);
    let _ = stop.send(true);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, rest).await.is_err() {
        eprintln!("answers under way took more than {} s", GRACE.as_secs());
    }
    Ok(())
}

/// Serves one connection to its end, or to the end of the answer under way once it is to stop.
async fn serve(stream: TcpStream, demo: Arc<Demo>, mut stopping: watch::Receiver<bool>) {
    let answer = service_fn(move |request| {
        let answer = demo.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    // How a connection ends is the client's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

impl Demo {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let broken = self.behaviour == Behaviour::Broken && self.since.elapsed() > BREAKS_AFTER;
        let path = request.uri().path();
        let flaky = path == "/" && self.count() && self.behaviour == Behaviour::Flaky;
        let fails = flaky || broken && matches!(path, "/" | "/healthz");
        if path == "/" && fails {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        let (status, kind, body) = match path {
            _ if fails => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "broken\n".to_owned()),
            "/" => (StatusCode::OK, "application/json", self.about.clone()),
            "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", self.metrics()),
            _ => (StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
        };
        Response::builder()
            .status(status)
            .header(CONTENT_TYPE, kind)
            .body(Full::new(body.into()))
            .expect("a status and a header that are well-formed")
    }
}

impl Demo {
    /// Counts a request; whether it is a fifth one.
    fn count(&self) -> bool {
        (self.requests.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(FLAKY_EVERY)
    }

    fn metrics(&self) -> String {
        let errors = self.errors.load(Ordering::Relaxed);
        let good = self.requests.load(Ordering::Relaxed).saturating_sub(errors);
        format!(
            "# TYPE http_requests_total counter\n\
             http_requests_total{{code=\"200\"}} {good}\n\
             http_requests_total{{code=\"500\"}} {errors}\n"
        )
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let end = Instant::now() + BIND_LIMIT;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("cannot listen on {address}"));
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Where `VERSION` is: beside the program, or one directory above it.
fn release_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().context("who am I?")?;
    let mut above = program.ancestors().skip(1).take(2);
    above
        .find(|directory| directory.join("VERSION").exists())
        .map(Path::to_owned)
        .with_context(|| format!("there is no VERSION beside {} or above", program.display()))
}

fn read(path: &Path) -> Result<String> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn behaviour(directory: &Path) -> Result<Behaviour> {
    match read(&directory.join("BEHAVIOUR"))?.as_str() {
        "good" => Ok(Behaviour::Good),
        "broken" => Ok(Behaviour::Broken),
        "flaky" => Ok(Behaviour::Flaky),
        "crash" => Ok(Behaviour::Crash),
        other => bail!("BEHAVIOUR is {other:?}: must be good, broken, flaky or crash"),
    }
}

/// Who answers, as JSON.
fn about(directory: &Path) -> Result<String> {
    let variable = |name| std::env::var(name).ok();
    let version = read(&directory.join("VERSION"))?;
    let service = variable("SWELL_SERVICE").unwrap_or_else(|| "demo".to_owned());
    let host = match variable("HOST") {
        Some(host) => host,
        None => read(Path::new("/proc/sys/kernel/hostname"))?,
    };
    let about = serde_json::json!({ "service": service, "version": version, "host": host });
    Ok(format!("{about}\n"))
}
